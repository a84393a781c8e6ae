package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInspectShowsWhatAModelConsistsOf(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	pushed := must(t, "push", made, ref)
	r := must(t, "inspect", ref)
	digest := strings.TrimSpace(pushed.stdout[strings.Index(pushed.stdout, "sha256:"):])
	name := strings.TrimPrefix(ref, "http://")
	for _, want := range []string{name, digest, "6 layers", "tokenizer/vocab.txt", "80 kB"} {
		assert.Contains(t, r.stdout, want)
	}
	var event struct {
		Event, Digest string
		Bytes         int64
		Layers        []struct {
			Name, Digest string
			Size         int64
		}
	}
	require.NoError(t, json.Unmarshal([]byte(must(t, "inspect", "--json", ref).stdout), &event))
	assert.Equal(t, "manifest", event.Event)
	assert.Len(t, event.Layers, 6)
	assert.True(t, json.Valid([]byte(must(t, "inspect", "--raw", ref).stdout)))
}

func TestAnIndexIsInspectedAndCopied(t *testing.T) {
	s := startedServer(t)
	ref := s.url + "/me/model"
	pushIndex(t, s, "me/model")
	r := must(t, "inspect", ref)
	for _, want := range []string{"lists     2 manifests", "linux/arm64", "linux/amd64"} {
		assert.Contains(t, r.stdout, want)
	}
	assert.Contains(t, must(t, "inspect", "--json", ref).stdout, `"platform":"linux/arm64"`)
	assert.Contains(t, must(t, "inspect", "--platform", "linux/arm64", ref).stdout, "1 layer")

	to := startedServer(t).url + "/you/model"
	stage := filepath.Join(t.TempDir(), "stage")
	must(t, "copy", "--dir", stage, ref, to+":all")
	assert.Equal(t, must(t, "inspect", "--raw", ref).stdout, must(t, "inspect", "--raw", to+":all").stdout)
	must(t, "copy", "--dir", stage, "--platform", "linux/amd64", ref, to+":one")
	assert.Contains(t, must(t, "inspect", to+":one").stdout, "1 layer")
	must(t, "pull", "--platform", "linux/arm64", to+":all", t.TempDir())
	r = runWith(t, "copy", "--dir", stage, ref, to+"@"+someDigest)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "not "+someDigest)
}

func TestTagsAreListed(t *testing.T) {
	made, base := tree(t, map[string]string{"a": "b"}), startedServer(t).url+"/me/model"
	for _, tag := range []string{"v2", "v1", "latest"} {
		must(t, "push", made, base+":"+tag)
	}
	assert.Equal(t, "latest\nv1\nv2\n", must(t, "tags", base).stdout)
	assert.Equal(
		t, `{"event":"tag","tag":"latest"}`, strings.Split(must(t, "tags", "--json", base).stdout, "\n")[0],
	)
	assert.Equal(t, exitUsage, runWith(t, "tags", "localhost:5000").code)
}

func TestAMissingTagLeadsToTheTags(t *testing.T) {
	made, base := tree(t, map[string]string{"a": "b"}), startedServer(t).url+"/me/model"
	must(t, "push", made, base+":v1")
	r := runWith(t, "pull", base+":v2", t.TempDir())
	assert.Equal(t, exitFailed, r.code)
	name := strings.TrimPrefix(base, "http://")
	assert.Contains(t, r.stderr, "hint: list what is there: transfer tags "+name)
}

// forms are the directories that pull makes of one model, and where in them its largest file is.
func forms(t *testing.T) (ref string, dirs map[string]string) {
	t.Helper()
	made := tree(t, someFiles)
	ref = startedServer(t).url + "/me/model:v1"
	must(t, "push", made, ref)
	dirs = map[string]string{}
	for _, form := range []string{"files", "blobs", "oci", "ollama"} {
		dirs[form] = t.TempDir()
		must(t, "pull", "--into", form, ref, dirs[form])
	}
	return ref, dirs
}

// largest is the path of the largest file below a directory.
func largest(t *testing.T, dir string) string {
	t.Helper()
	files := filesOf(t, dir)
	name := slices.MaxFunc(
		slices.Collect(maps.Keys(files)),
		func(a, b string) int { return len(files[a]) - len(files[b]) },
	)
	return filepath.Join(dir, name)
}

func TestVerifyFindsAndRepairsDamageInEachForm(t *testing.T) {
	ref, dirs := forms(t)
	for form, dir := range dirs {
		t.Run(form, func(t *testing.T) {
			assert.Contains(t, must(t, "verify", dir).stdout, "all right")
			want, path := filesOf(t, dir), largest(t, dir)
			info, err := os.Stat(path)
			require.NoError(t, err)
			for damage, apply := range map[string]func() error{
				"does not match": func() error {
					return os.WriteFile(path, make([]byte, info.Size()), 0o600)
				},
				"bytes":   func() error { return os.WriteFile(path, []byte("short"), 0o600) },
				"missing": func() error { return os.Remove(path) },
			} {
				require.NoError(t, apply())
				r := runWith(t, "verify", dir)
				assert.Equal(t, exitFailed, r.code)
				assert.Contains(t, r.stdout, damage)
				assert.Contains(t, r.stderr, "hint: repair it with: transfer verify "+dir+" --from ")
				assert.Contains(t, must(t, "verify", dir, "--from", ref).stdout, "repaired 1 file of")
				assert.Equal(t, want, filesOf(t, dir))
			}
			assert.Contains(t, must(t, "verify", dir).stdout, "all right")
		})
	}
}

func TestVerifyNeedsAPulledDirectory(t *testing.T) {
	r := runWith(t, "verify", tree(t, map[string]string{"a": "b"}))
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "was not made by pull")
}

func TestPruneRemovesOnlyWhatNothingNeeds(t *testing.T) {
	_, dirs := forms(t)
	junk := strings.Repeat("0", 64)
	for form, left := range map[string][]string{
		"files":  {stateDir + "/sha256-" + junk + ".partial", stateDir + "/sha256-" + junk},
		"blobs":  {"sha256-" + junk, "sha256-" + junk + ".partial", "sha256-" + junk + ".journal"},
		"oci":    {"blobs/sha256/" + junk, stateDir + "/sha256-" + junk + ".partial"},
		"ollama": {"blobs/sha256-" + junk, "blobs/sha256-" + junk + ".partial-abc"},
	} {
		t.Run(form, func(t *testing.T) {
			dir := dirs[form]
			want := filesOf(t, dir)
			for _, name := range append(left, "notes.txt") {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("12345"), 0o600))
			}
			want["notes.txt"] = "12345"
			r := must(t, "prune", "--dry-run", dir)
			assert.Contains(t, r.stdout, "would remove "+plural(len(left), "file"))
			assert.FileExists(t, filepath.Join(dir, left[0]))
			r = must(t, "prune", dir)
			assert.Contains(t, r.stdout, "removed "+plural(len(left), "file"))
			assert.Equal(t, want, filesOf(t, dir))
			for _, name := range left {
				assert.NoFileExists(t, filepath.Join(dir, name))
			}
			must(t, "verify", dir)
		})
	}
}

// People keep their models on another disk, behind a link.
func TestPruneGoesThroughLinksToItsDirectories(t *testing.T) {
	_, dirs := forms(t)
	junk := "sha256-" + strings.Repeat("0", 64)
	links := t.TempDir()
	linked := filepath.Join(links, "blobs")
	link(t, dirs["blobs"], linked)
	elsewhere := filepath.Join(links, "elsewhere")
	require.NoError(t, os.Rename(filepath.Join(dirs["ollama"], "blobs"), elsewhere))
	link(t, elsewhere, filepath.Join(dirs["ollama"], "blobs"))
	for dir, place := range map[string]string{linked: dirs["blobs"], dirs["ollama"]: elsewhere} {
		want := filesOf(t, place)
		require.NoError(t, os.WriteFile(filepath.Join(place, junk), nil, 0o600))
		assert.Contains(t, must(t, "prune", dir).stdout, "removed 1 file")
		assert.Equal(t, want, filesOf(t, place))
	}
}

// link makes a symbolic link, or skips the test where nobody may.
func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Skip(err)
	}
}

func TestPruneRemovesNothingWhereAManifestIsDamaged(t *testing.T) {
	_, dirs := forms(t)
	index, err := os.ReadFile(filepath.Join(dirs["oci"], "index.json"))
	require.NoError(t, err)
	_, digest, _ := strings.Cut(string(index), "sha256:")
	require.NoError(t, os.Remove(filepath.Join(dirs["oci"], "blobs", "sha256", digest[:64])))
	want := filesOf(t, dirs["oci"])
	r := runWith(t, "prune", dirs["oci"])
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "it is not known which blobs are needed")
	assert.Equal(t, want, filesOf(t, dirs["oci"]))
}

func TestAModelIsCopied(t *testing.T) {
	made, s := tree(t, someFiles), startedServer(t)
	from := s.url + "/me/model:v1"
	must(t, "push", made, from)
	for name, to := range map[string]string{
		"mounted": s.url + "/team/model:v1", "elsewhere": startedServer(t).url + "/you/model:v2",
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "stage")
			first := must(t, "copy", "--dir", dir, from, to)
			assert.NoDirExists(t, dir)
			if name == "mounted" {
				assert.Contains(t, first.stdout, "all there already")
			}
			pulled := t.TempDir()
			must(t, "pull", to, pulled)
			assert.Equal(t, someFiles, filesOf(t, pulled))
			assert.Contains(t, must(t, "copy", "--dir", dir, from, to).stdout, "all there already")
		})
	}
}

func TestALogInIsCheckedAndKept(t *testing.T) {
	s := startedServer(t)
	basic := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password == "hunter2" {
			s.http.Handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="me"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer basic.Close()
	for name, url := range map[string]string{"token": guard(t, s), "basic": basic.URL} {
		t.Run(name, func(t *testing.T) {
			host, home := strings.TrimPrefix(url, "http://"), t.TempDir()
			login := func(password string) result {
				var stdout, stderr lockedBuffer
				a := &app{
					stdin: strings.NewReader(password + "\n"), stdout: &stdout, stderr: &stderr,
					getenv: env(map[string]string{"HOME": home}),
				}
				code := a.run(t.Context(), []string{"login", "--username", "me", "--password-stdin", host})
				return result{code, stdout.String(), stderr.String()}
			}
			r := login("wrong")
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "hint: check the name and the password")
			assert.NoFileExists(t, filepath.Join(home, ".docker", "config.json"))

			r = login("hunter2")
			require.Equal(t, exitOK, r.code, r.stderr)
			assert.Contains(t, r.stdout, "logged in to "+host+" as me")
			r = runIn(t.Context(), env(map[string]string{"HOME": home}), "tags", url+"/me/model")
			assert.Contains(t, r.stderr, "404", "a log-in that works leads to what is not there")

			r = runIn(t.Context(), env(map[string]string{"HOME": home}), "logout", host)
			require.Equal(t, exitOK, r.code, r.stderr)
			r = runIn(t.Context(), env(map[string]string{"HOME": home}), "tags", url+"/me/model")
			assert.Contains(t, r.stderr, "hint: log in with: transfer login "+host)
			r = runIn(t.Context(), env(map[string]string{"HOME": home}), "logout", host)
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "no credentials are kept")
		})
	}
}

// podman's file is podman's to edit.
func TestALogOutTellsWhatPodmanKeeps(t *testing.T) {
	home := t.TempDir()
	auth := filepath.Join(home, "run", "containers", "auth.json")
	vars := env(map[string]string{"HOME": home, "XDG_RUNTIME_DIR": filepath.Join(home, "run")})
	const login = `{"auth":"bWU6cHc="}`
	write := func(path, content string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	kept := `{"auths":{"registry.example":` + login + `,"registry.example/me":` + login +
		`,"docker.io":` + login + `,"registry.example.org":` + login + `}}`
	write(auth, kept)
	write(filepath.Join(home, ".docker", "config.json"), `{"auths":{"registry.example":`+login+`}}`)
	command := "remove it with: podman logout --authfile " + auth + " "

	r := runIn(t.Context(), vars, "logout", "registry.example")
	assert.Equal(t, exitOK, r.code)
	assert.Contains(t, r.stdout, "forgot the credentials for registry.example")
	assert.Equal(t, 2, strings.Count(r.stderr, "podman keeps a log-in"), r.stderr)
	assert.Contains(t, r.stderr, command+"registry.example\n")
	assert.Contains(t, r.stderr, command+"registry.example/me\n")

	r = runIn(t.Context(), vars, "logout", "docker.io")
	assert.Equal(t, exitFailed, r.code, "nothing of its own")
	assert.Contains(t, r.stderr, command+"docker.io\n")
	data, err := os.ReadFile(auth)
	require.NoError(t, err)
	assert.Equal(t, kept, string(data))

	write(auth, "{")
	r = runIn(t.Context(), vars, "logout", "registry.example")
	assert.Contains(t, r.stderr, "auth.json cannot be read")
}

func TestALogInThatCannotBeAskedForIsAUsageError(t *testing.T) {
	for _, args := range [][]string{
		{"login", "registry.example"},
		{"login", "--password-stdin", "registry.example"},
		{"login", "--username", "me", "--password-stdin", "registry.example"},
		{"login", "a b"},
		{"logout", "x/y"},
	} {
		assert.Equal(t, exitUsage, runWith(t, args...).code, "%v", args)
	}
}

func TestWhatIsNoRegistryIsNamedSoAtLogin(t *testing.T) {
	front := httptest.NewServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }),
	)
	defer front.Close()
	environ := env(map[string]string{passwordVariable: "pw", "HOME": t.TempDir()})
	r := runIn(t.Context(), environ, "login", "--username", "me", front.URL)
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "does not answer as a registry does")
}

func TestTheManualHasEachCommand(t *testing.T) {
	page := must(t, "man").stdout
	for _, want := range []string{".TH", "transfer-pull", "transfer-serve", "--platform"} {
		assert.Contains(t, strings.ReplaceAll(page, `\-`, "-"), want)
	}
	dir := t.TempDir()
	must(t, "man", dir)
	assert.FileExists(t, filepath.Join(dir, "transfer-push.1"))
}

func TestTheManualIsWrittenForRoff(t *testing.T) {
	assert.Equal(t, "a\n\\&.git\n\\&'s\nC:\\edir \\-\\-flag", roff("a\n.git\n's\nC:\\dir --flag"))
	assert.Contains(t, must(t, "man").stdout, ".TP\n\\fB\\-\\-json\\fP\nprint one JSON event a line\n")
}

func TestACompletionIsPrinted(t *testing.T) {
	assert.Contains(t, must(t, "completion", "bash").stdout, "__start_transfer")
	assert.Equal(t, `transfer: no completion for "nope"; there is one for bash, zsh, fish, powershell `+
		"(see: transfer help)\n", runWith(t, "completion", "nope").stderr)
}

func TestEventsAreOneALine(t *testing.T) {
	made, ref := tree(t, someFiles), startedServer(t).url+"/me/model:v1"
	for _, args := range [][]string{
		{"push", made, ref}, {"pull", ref, t.TempDir()}, {"inspect", ref}, {"pull", ref + "x", t.TempDir()},
	} {
		r := runWith(t, append(args, "--json")...)
		lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
		for _, line := range lines {
			var event map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &event), line)
			assert.NotEmpty(t, event["event"])
		}
		if r.code != exitOK {
			assert.Contains(t, lines[len(lines)-1], `"event":"error"`)
		}
	}
}

func TestHintsFollowTheFailure(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secureHost := strings.TrimPrefix(secure.URL, "https://")
	for name, test := range map[string]struct{ ref, want string }{
		"an unknown authority": {secure.URL + "/me/model", "--ca-file FILE"},
		"https to http":        {"https://" + plain.Listener.Addr().String() + "/m", " speaks http; use"},
		"http to https":        {"http://" + secureHost + "/me/model", "speaks https"},
		"nobody there":         {"http://127.0.0.1:1/me/model", "nothing answers there"},
	} {
		t.Run(name, func(t *testing.T) {
			r := runWith(t, "pull", "--retry-timeout", "1ms", test.ref, t.TempDir())
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.stderr, "hint: ")
			assert.Contains(t, r.stderr, test.want)
		})
	}
}

func TestAnAuthorityIsTrustedOrNoneIsAskedFor(t *testing.T) {
	made := tree(t, someFiles)
	s := startedServer(t)
	secure := httptest.NewTLSServer(s.http.Handler)
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pemOf(secure), 0o600))
	must(t, "push", "--ca-file", ca, made, secure.URL+"/me/model")
	pulled := t.TempDir()
	must(t, "pull", "--insecure", secure.URL+"/me/model", pulled)
	assert.Equal(t, someFiles, filesOf(t, pulled))
	r := runWith(t, "tags", "--ca-file", largest(t, made), secure.URL+"/me/model")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "no certificate in it")
}

func TestRetriesAreTold(t *testing.T) {
	made, s := tree(t, someFiles), startedServer(t)
	must(t, "push", made, s.url+"/me/model")
	failed := false
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !failed {
			failed = true
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "busy")
			return
		}
		s.http.Handler.ServeHTTP(w, r)
	}))
	defer front.Close()
	r := must(t, "pull", front.URL+"/me/model", t.TempDir())
	assert.Contains(t, r.stderr, "trying again in ")
	assert.Contains(t, r.stderr, "503")
}

func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
