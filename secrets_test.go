package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/registrytest"
)

// I15: whatever goes wrong, no token and no signature is told.
func TestI15DownloadTellsNoSecrets(t *testing.T) {
	cases := named(
		"**403", "503->stall(10)->**404", "**redirect(https://user:signed@elsewhere.test/?sig=signed)",
		"**302(location: /x?sig=signed)", "flip(1)",
	)
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, script string) {
		var book logBook
		w, cdn := redirecting(t, mode, "cdn.test")
		b := w.remote(1000)
		fault := cdn.Fault("GET", b.Digest, script)
		opts := w.withToken(w.downloadOptions(b))
		opts.Mirrors = []string{strings.Replace(w.server.URL, "registry.test", "down.test", 1)}
		opts.Logger = book.logger()
		err := w.download(opts)
		assert.True(t, fault.Done())
		told := book.String() + fmt.Sprintf("%v %+v", err, err)
		assert.Contains(t, told, b.Digest)
		assert.NotContains(t, told, "signed")
		assert.NotContains(t, told, "secret")
	})
}

// secrets are what must not be told: tokens old and new, what signs a URL, what a session hides in its state.
var secrets = []string{"geheim", "top-secret", "signed", "_state=0", "_state=1", "crumbs"}

func TestI15SecretsInErrorsAndLogs(t *testing.T) {
	type test struct{ host, method, path, script string }
	cases := map[string]test{
		"nothing goes wrong": {"registry", "POST", "", "ok"},
		"store refuses":      {"cdn", "PUT", "", "**403"},
		"store fails":        {"cdn", "PUT", "", "**503"},
		"store hangs up":     {"cdn", "PUT", "", "**reset"},
		"store stalls":       {"cdn", "PUT", "", "**stallbody(10)"},
		"store leads to ftp": {"cdn", "PUT", "", "**redirect(ftp://geheim:geheim@x.test/?sig=geheim)"},
		"garbage redirect":   {"registry", "PUT", "/uploads/", "**redirect(https://x.test:port/?sig=geheim)"},
		"garbage Location": {"registry", "POST", "",
			"**header(-location; location: https://x.test/%zz?sig=geheim)"},
		"loop":                  {"registry", "PUT", "/uploads/", "**redirect(?sig=geheim)"},
		"unknown host":          {"registry", "PUT", "/uploads/", "**redirect(//unknown.test/?sig=geheim)"},
		"registry refuses":      {"registry", "", "", "**403"},
		"registry fails":        {"registry", "HEAD", "", "**502"},
		"manifest is refused":   {"registry", "PUT", "/manifests/", "**400"},
		"manifest in the wrong": {"registry", "PUT", "/manifests/", "**redirect(https://user:geheim@x.test)"},
		"no token":              {"registry", "POST", "", "**401"},
		"realm with a password": {"registry", "POST", "",
			`401(www-authenticate: Bearer realm="https://u:geheim@x.test?sig=geheim")`},
		"session is not forgotten": {"registry", "DELETE", "", "**500"},
	}
	eachInBubbles(t, cases, func(t *testing.T, mode registrytest.Mode, _ string, fault test) {
		w := newWorld(t, mode, registrytest.Options{Token: "top-secret"})
		cdn := w.reg.CDN()
		w.redirectUploads(w.net.Serve("cdn.test", cdn, mode).URL)
		add := w.reg.Fault
		if fault.host == "cdn" {
			add = cdn.Fault
		}
		script := add(fault.method, fault.path, fault.script)
		if fault.method == "DELETE" { // only an upload that fails deletes its session
			cdn.Fault("PUT", "", "**403")
		}
		var book logBook
		opts := w.uploadOptions(w.local(3<<20), w.local(100))
		opts.Token, opts.Logger, opts.Concurrency = "geheim", book.logger(), 1
		opts.Client = &http.Client{Transport: w.client.Transport, Jar: jar{}}
		opts.GetToken = func(context.Context, transfer.AuthChallenge) (string, error) { return "top-secret", nil }
		opts.Manifest, opts.ManifestRef = []byte(`{}`), "latest"
		if err := w.upload(opts); err != nil {
			for _, form := range []string{"%v", "%+v", "%q"} {
				requireNoSecrets(t, fmt.Sprintf(form, err))
			}
			var status *transfer.StatusError
			if errors.As(err, &status) {
				requireNoSecrets(t, fmt.Sprintf("%+v", *status))
			}
		}
		assert.True(t, script.Done())
		assert.NotEmpty(t, book.String())
		requireNoSecrets(t, book.String())
	})
}

// A registry may quote what it was sent, where a long token is cut short.
func TestI15RegistryQuotesTheToken(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 40)
	for name, body := range map[string]string{
		"message": `{"errors":[{"code":"DENIED","message":"bad token top-secret-token!"}]}`,
		"code":    `{"errors":[{"code":"top-secret-token","message":"x"}]}`,
		"header":  `{"errors":[{"code":"DENIED","message":"Authorization: Bearer top-secret-token"}]}`,
		"twice": `{"errors":[{"message":"top-secret-token top-secret-token"},` +
			`{"code":"top-secret-token"}]}`,
		"long":             `{"errors":[{"message":"bad token ` + long + `"}]}`,
		"long, cut short":  `{"errors":[{"message":"` + strings.Repeat("x", 240) + long + `"}]}`,
		"cut at the token": `{"errors":[{"message":"` + strings.Repeat("x", 245) + `top-secret-token"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, registrytest.H1, registrytest.Options{})
				w.reg.Fault("", "", "**says(403, "+body+")")
				var book logBook
				opts := w.uploadOptions(w.local(3 << 20))
				opts.Token, opts.Logger = "top-secret-token", book.logger()
				if strings.Contains(name, "long") {
					opts.Token = long
				}
				err := w.upload(opts)
				status := requireStatus(t, err, http.StatusForbidden)
				for _, told := range []string{err.Error(), fmt.Sprintf("%+v", *status), book.String()} {
					assert.NotContains(t, told, "top-secre")
					assert.NotContains(t, told, "0123456789")
				}
			})
		})
	}
}
