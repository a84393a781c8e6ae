//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/registry"
)

func TestTagsAreGivenAndDeleted(t *testing.T) {
	s := startedServer(t)
	ref := s.url + "/me/model"
	must(t, "push", tree(t, someFiles), ref+":v1")
	r := must(t, "tag", ref+":v1", "v2", "latest")
	assert.Contains(t, r.stdout, " as ")
	assert.Equal(t, "latest\nv1\nv2\n", must(t, "tags", ref).stdout)
	assert.Contains(t, must(t, "delete", ref+":v2").stdout, "deleted ")
	assert.Equal(t, "latest\nv1\n", must(t, "tags", ref).stdout)

	dg := digestOf(t, ref, "v1")
	must(t, "delete", ref+"@"+dg.String())
	assert.Equal(t, exitFailed, runWith(t, "inspect", ref+":v1").code)
	for _, args := range [][]string{
		{"delete", ref}, {"tag", ref}, {"tag", ref, "not a tag"}, {"tag", ref, "v1@sha256:0"}, {"delete"},
	} {
		assert.Equal(t, exitUsage, runWith(t, args...).code, "%v", args)
	}
	assert.Equal(t, exitFailed, runWith(t, "delete", ref+":none").code)

	// A registry that deletes no tags, as distribution before version 3.
	front := fronted(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, "sha256:") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DIGEST_INVALID"}]}`)
			return true
		}
		return false
	})
	must(t, "push", tree(t, someFiles), front+"/me/model:v1")
	r = runWith(t, "delete", front+"/me/model:v1")
	assert.Equal(t, exitFailed, r.code)
	name := strings.TrimPrefix(front, "http://") + "/me/model"
	assert.Contains(t, r.stderr, "all its tags, by its digest: transfer delete "+name+"@"+dg.String()+"\n")
	r = runWith(t, "delete", front+"/me/model:none")
	assert.Contains(t, r.stderr, "404 Not Found")
	assert.Contains(t, r.stderr, "hint: list what is there: transfer tags "+name+"\n")
}

func TestRepositoriesAreListed(t *testing.T) {
	s := startedServer(t)
	for _, name := range []string{"a/one", "b/two"} {
		must(t, "push", tree(t, someFiles), s.url+"/"+name+":v1")
	}
	assert.Equal(t, "a/one\nb/two\n", must(t, "repos", s.url).stdout)
	front := fronted(t, s, func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	r := runWith(t, "repos", front)
	host := strings.TrimPrefix(front, "http://")
	assert.Contains(t, r.stderr, host+": repositories: GET "+front+"/v2/_catalog: 404")
	assert.Equal(t, `{"event":"repository","repository":"a/one"}`+"\n"+
		`{"event":"repository","repository":"b/two"}`+"\n", must(t, "repos", "--json", s.url).stdout)
}

func TestWhatIsAttachedIsDiscoveredAndCopied(t *testing.T) {
	s := startedServer(t)
	ref := s.url + "/me/model:v1"
	must(t, "push", tree(t, someFiles), ref)
	signature := filepath.Join(tree(t, map[string]string{"model.sig": "signed"}), "model.sig")
	r := must(t, "attach", "--artifact-type", "application/x.sig", ref, signature)
	assert.Contains(t, r.stdout, "attached ")
	_, dg, _ := strings.Cut(strings.TrimSpace(r.stdout), "digest ")
	r = must(t, "attach", "--artifact-type", "application/x.note", s.url+"/me/model@"+dg, signature)
	_, leaf, _ := strings.Cut(strings.TrimSpace(r.stdout), "digest ")

	tree := must(t, "discover", ref).stdout
	assert.Contains(t, tree, "\n└── "+dg+"  application/x.sig\n    └── sha256:")
	assert.Contains(t, tree, "application/x.note\n")
	none := must(t, "discover", "--artifact-type", "application/x.none", ref)
	assert.NotContains(t, none.stdout, "──")
	assert.Equal(t, "nothing of type application/x.none refers to it\n", none.stderr)
	assert.Equal(t, "nothing refers to it\n", must(t, "discover", s.url+"/me/model@"+leaf).stderr)
	assert.Contains(t, must(t, "discover", "--json", ref).stdout, `"artifactType":"application/x.sig"`)
	assert.Contains(t, must(t, "copy", ref, s.url+"/you/model:v1").stdout, "with 2 referrers")
	pulled := t.TempDir()
	must(t, "pull", s.url+"/you/model@"+dg, pulled)
	assert.Equal(t, map[string]string{"model.sig": "signed"}, filesOf(t, pulled))
	assert.Equal(t, exitUsage, runWith(t, "attach", ref, signature).code, "it says what it is")
}

func TestAClientCertificateIsShown(t *testing.T) {
	s := startedServer(t)
	pool := x509.NewCertPool()
	certificate, key := ownCertificate(t)
	pool.AppendCertsFromPEM(certificate)
	server := httptest.NewUnstartedServer(s.http.Handler)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.StartTLS()
	defer server.Close()
	files := tree(t, map[string]string{
		"ca": string(pemOf(server)), "cert": string(certificate), "key": string(key),
		"both": string(append(certificate, key...)),
	})
	ref := server.URL + "/me/model:v1"
	made := tree(t, someFiles)
	trust := []string{"--ca-file", filepath.Join(files, "ca")}
	must(t, append([]string{"push", made, ref, "--cert", filepath.Join(files, "both")}, trust...)...)
	certFile, keyFile := filepath.Join(files, "cert"), filepath.Join(files, "key")
	must(t, append([]string{"pull", ref, t.TempDir(), "--cert", certFile, "--key", keyFile}, trust...)...)
	r := runWith(t, append([]string{"pull", ref, t.TempDir()}, trust...)...)
	assert.Equal(t, exitFailed, r.code)
	const way = " wants a certificate of yours: name it with --cert FILE, and its key with --key FILE\n"
	assert.Contains(t, r.stderr, "hint: "+server.URL+way)
	assert.NotContains(t, r.stderr, "tls.Config", "that is for programs")
	other, otherKey := ownCertificate(t)
	wrong := filepath.Join(tree(t, map[string]string{"wrong": string(append(other, otherKey...))}), "wrong")
	r = runWith(t, append([]string{"pull", ref, t.TempDir(), "--cert", wrong}, trust...)...)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, " does not take the certificate of --cert")
	r = runWith(t, "pull", ref, t.TempDir(), "--cert", certFile)
	assert.Contains(t, r.stderr, "; --key names the file with its key\n")
	r = runWith(t, "pull", ref, t.TempDir(), "--cert", filepath.Join(files, "ca"))
	assert.Contains(t, r.stderr, "transfer: --cert: ")
	assert.Equal(t, exitUsage, runWith(t, "pull", ref, t.TempDir(), "--key", keyFile).code)
}

// ownCertificate is a certificate of a client that it has signed itself, and its key.
func ownCertificate(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	encoded, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})
}

func TestValuesOfFlagsAreCompleted(t *testing.T) {
	for flag, want := range map[string]string{
		"pull --into": "files\nblobs\noci\nollama\n:4\n", "push --type": "files\nmodelpack\nollama\n:4\n",
		"inspect --platform": "linux/amd64\n",
	} {
		command, name, _ := strings.Cut(flag, " ")
		assert.True(t, strings.HasPrefix(runWith(t, "__complete", command, name, "").stdout, want), flag)
	}
	assert.Contains(t, runWith(t, "__complete", "serve", "--tls-cert", "").stdout, ":0\n", "a file")
}

func TestThePagesNameFlagsAsTheyAreWritten(t *testing.T) {
	dir := t.TempDir()
	must(t, "man", dir)
	page, err := os.ReadFile(filepath.Join(dir, "transfer-pull.1"))
	require.NoError(t, err)
	assert.Contains(t, string(page), "keep")
	for _, text := range []string{string(page), must(t, "man").stdout} {
		assert.NotContains(t, text, "=false")
	}
}

func TestTheVersionIsAFlagToo(t *testing.T) {
	assert.Equal(t, must(t, "version").stdout, must(t, "--version").stdout)
}

func TestAModelGetsADirectoryOfItsName(t *testing.T) {
	ref := startedServer(t).url + "/me/model:v1"
	must(t, "push", tree(t, someFiles), ref)
	t.Chdir(t.TempDir())
	assert.Contains(t, must(t, "pull", ref).stdout, " to model: ")
	assert.Equal(t, someFiles, filesOf(t, "model"))
	assert.Equal(t, exitUsage, runWith(t, "pull", "--into", "ollama", ref).code)
}

func TestOperandsThatChangedPlacesAreToldBeforeAnybodyIsAsked(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, args := range [][]string{
		{"pull", "./model", "registry.invalid/me/model:v1"},
		{"pull", "model", "registry.invalid/me/model:v1"},
		{"pull", "model", "https://registry.invalid/me/model"},
	} {
		r := runWith(t, args...)
		assert.Equal(t, exitUsage, r.code)
		assert.Contains(t, r.stderr, "pull takes the reference first: transfer pull "+args[2]+" "+args[1])
	}
	require.NoError(t, os.WriteFile("file.gguf", nil, 0o600))
	r := runWith(t, "push", "registry.invalid/me/model:v1", "file.gguf")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stderr, "transfer push file.gguf registry.invalid/me/model:v1")
}

func TestFilesAreExcludedFromAPush(t *testing.T) {
	ref := startedServer(t).url + "/me/model:v1"
	made := tree(t, map[string]string{
		"a": "1", "b.tmp": "2", "cache/c": "3", "d/x.tmp": "4", ".git/config": "5",
	})
	for _, kind := range [][]string{nil, {"--tar"}, {"--type", "modelpack"}} {
		args := []string{"push", "--exclude", "*.tmp", "--exclude", "cache/", made, ref}
		r := must(t, append(args, kind...)...)
		assert.Contains(t, r.stdout, "left out "+filepath.Join(made, ".git"))
		assert.NotContains(t, r.stdout, "b.tmp", "that was asked for")
		pulled := t.TempDir()
		must(t, "pull", ref, pulled)
		var names []string
		for name := range filesOf(t, pulled) {
			names = append(names, name[strings.LastIndexByte(name, '/')+1:])
		}
		assert.Equal(t, []string{"a"}, names, "%v", kind)
	}
	r := must(t, "push", "--json", made, ref)
	assert.Contains(t, r.stdout, `{"event":"leftOut","path":"`+filepath.Join(made, ".git")+`"}`)
	assert.Equal(t, exitUsage, runWith(t, "push", "--exclude", "[", made, ref).code)
	pulled := t.TempDir()
	must(t, "pull", "--into", "oci", ref, pulled)
	assert.Equal(t, exitUsage, runWith(t, "push", "--exclude", "a", pulled, ref).code, "it would do nothing")
}

func TestLinksOutOfTheDirectoryAreAnErrorWithAWayOut(t *testing.T) {
	ref, outside := startedServer(t).url+"/me/model:v1", tree(t, map[string]string{"secret": "s"})
	made := tree(t, map[string]string{"a": "1"})
	link(t, "a", filepath.Join(made, "inside"))
	must(t, "push", made, ref)
	link(t, filepath.Join(outside, "secret"), filepath.Join(made, "out"))
	for _, kind := range []string{"files", "modelpack"} {
		r := runWith(t, "push", "--type", kind, made, ref)
		assert.Equal(t, exitFailed, r.code)
		assert.Contains(t, r.stderr, "out: the link leads out of what is sent: to ")
		assert.Contains(t, r.stderr, "--follow-links sends that, --exclude leaves the link out")
	}
	must(t, "push", "--exclude", "out", made, ref)
	must(t, "push", "--follow-links", made, ref)
	pulled := t.TempDir()
	must(t, "pull", ref, pulled)
	assert.Equal(t, map[string]string{"a": "1", "inside": "1", "out": "s"}, filesOf(t, pulled))
	link(t, outside, filepath.Join(made, "dir"))
	r := runWith(t, "push", "--follow-links", made, ref)
	const way = "; --exclude leaves it out\n"
	assert.Contains(t, r.stderr, "a link to a directory, which is not followed"+way)
	link(t, "nowhere", filepath.Join(made, "dead"))
	r = runWith(t, "push", "--exclude", "dir", made, ref)
	const nothing = ": neither a file nor a directory: a link to nothing"
	assert.Contains(t, r.stderr, filepath.Join(made, "dead")+nothing+way)
	r = runWith(t, "push", "--exclude", "*", made, ref)
	assert.Contains(t, r.stderr, made+": there is no file in it that the patterns do not exclude\n")
}

func TestAPlatformOfNoIndexIsSaid(t *testing.T) {
	ref := startedServer(t).url + "/me/model:v1"
	must(t, "push", tree(t, someFiles), ref)
	for _, args := range [][]string{{"pull", ref, t.TempDir()}, {"inspect", ref}, {"copy", ref, ref + "-2"}} {
		r := must(t, append(args, "--platform", "linux/arm64")...)
		assert.Contains(t, r.stderr, "is no index of platforms; --platform linux/arm64 chooses nothing\n")
	}
}

func TestAttestationsAreNoPlatformToChoose(t *testing.T) {
	reg := newAnyRegistry(t)
	child := reg.model(map[string]string{"a": "1"})
	one := func(platform string) string {
		system, architecture, _ := strings.Cut(platform, "/")
		return `{"mediaType":"` + child.MediaType + `","digest":"` + child.Digest + `","size":1,` +
			`"platform":{"os":"` + system + `","architecture":"` + architecture + `"}}`
	}
	manifests := one("linux/amd64") + `,` + one("unknown/unknown") + `,` + one("linux/arm64")
	index := reg.putManifest(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`,
		registry.MediaTypeIndex, manifests), registry.MediaTypeIndex)
	r := runWith(t, "pull", "--platform", "plan9/386", reg.ref(index), t.TempDir())
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "choose with --platform linux/amd64, linux/arm64\n")
}

func TestTheSumsOfInspectAddUp(t *testing.T) {
	ref := startedServer(t).url + "/me/model:v1"
	must(t, "push", tree(t, map[string]string{"a": "12345", "b": "12345", "c": "1"}), ref)
	text := must(t, "inspect", ref).stdout
	const size = "8 B in 3 layers and a config; those of the same content, 5 B more, count once"
	assert.Contains(t, text, "size      "+size+"\n")
	const config = "     2 B  sha256:44136fa355b3  application/vnd.oci.empty.v1+json\n"
	assert.Equal(t, 1, strings.Count(text, config))
}

func TestAModelThatIsNotThereIsToldFromSeveral(t *testing.T) {
	_, dirs := forms(t)
	r := runWith(t, "push", "--model", "nope", dirs["oci"], "localhost:1/a")
	assert.Contains(t, r.stderr, `no model of that name is in it: "nope"; it has v1`)
	assert.NotContains(t, r.stderr, "several")
	dir := dirs["ollama"]
	for _, copied := range []string{"x", "y"} {
		place := filepath.Join(dir, "manifests", "registry.example", copied, "m")
		require.NoError(t, os.MkdirAll(place, 0o755))
		manifests, err := filepath.Glob(filepath.Join(dir, "manifests", "*", "me", "model", "v1"))
		require.NoError(t, err)
		data, err := os.ReadFile(manifests[0])
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(place, "v1"), data, 0o600))
	}
	r = runWith(t, "push", "--model", "m:v1", dir, "localhost:1/a")
	const several = `"m:v1" fits registry.example/x/m:v1, registry.example/y/m:v1; say more of the name`
	assert.Contains(t, r.stderr, "and "+several)
}

func TestUpperCaseIsSaidWhereNothingIsFound(t *testing.T) {
	s := startedServer(t)
	r := runWith(t, "inspect", s.url+"/Me/Model:v1")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "/me/model")
}

func TestTheTimeOfHashingIsToldToo(t *testing.T) {
	o := outcome{blobs: 1, total: 4000, moved: 4000, took: 2 * time.Second, whole: 5 * time.Second}
	assert.Equal(t, "1 blob, 4.0 kB in 5.0 s, 2.0 s of them moving, 2.0 kB/s", o.String())
	assert.Contains(t, o.fields(), field{"seconds", 5.0})
}
