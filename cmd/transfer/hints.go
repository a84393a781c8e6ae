package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/modeltransfer/transfer"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/wire"
	"github.com/modeltransfer/transfer/model"
	"github.com/modeltransfer/transfer/model/credentials"
	"github.com/modeltransfer/transfer/registry"
)

// adviser knows what to do about errors.
type adviser struct{ *app }

// advise returns the message of an error, and what to do about it. That takes the place of the advice that
// the error itself has for programs, as about tokens: a person logs in. Advice is made to be taken out of
// messages, and no other part of them is touched.
func (a adviser) advise(err error) (message, hint string) {
	message, hint = oneLine(err), a.hint(err)
	if !a.goesOn { // as the package says it of its two calls
		message = strings.ReplaceAll(message, ", run it again to continue", "")
	}
	if advice := adviceOf(err); hint != "" && advice != "" {
		message = strings.ReplaceAll(message, " ("+advice+")", "")
	}
	return message, hint
}

// adviceOf returns the advice that an error has for programs. It is empty also where somebody else is to
// blame, such as a store behind the registry.
func adviceOf(err error) string {
	advised, ok := errors.AsType[interface {
		error
		Advice() string
	}](err)
	if !ok {
		return ""
	}
	return advised.Advice()
}

// hint returns what to do about an error where that is known, or nothing.
func (a adviser) hint(err error) string {
	for _, find := range []func(error) string{
		a.loginHint, a.certificateHint, a.tlsHint, a.schemeHint, proxyHint, a.notFoundHint, hostHint,
		waitHint,
		spaceHint, a.corruptHint, limitHint, formHint, deleteHint,
	} {
		if h := find(err); h != "" {
			return h
		}
	}
	return ""
}

// loginHint says how to log in where credentials are missing or refused.
func (a adviser) loginHint(err error) string {
	denied := errors.Is(err, registry.ErrDenied)
	who, skipped := a.who.of(a.host)
	if a.hasUsername(a.host) {
		who = a.username
	}
	var unreadable *credentials.Unreadable
	switch {
	case errors.As(err, &unreadable):
		return repair(unreadable, a.host)
	case denied && who != "":
		return fmt.Sprintf("%s does not let %s do that in %s; log in as somebody who may: "+
			"transfer login %[1]s", a.host, who, a.repository.Repository)
	case denied:
		return fmt.Sprintf("%s does not let everybody do that; log in with: transfer login %[1]s", a.host)
	case !errors.Is(err, registry.ErrUnauthorized):
		return ""
	case a.hasUsername(a.host):
		return fmt.Sprintf("check the name and the password of --username %s for %s", a.username, a.host)
	case skipped != nil:
		return fmt.Sprintf("the log-in that is kept could not be read; %s", repair(skipped, a.host))
	case who != "":
		const refused = "%[1]s refuses %[2]s; check the name and the password, or log in again: " +
			"transfer login %[1]s"
		return fmt.Sprintf(refused, a.host, who)
	}
	return fmt.Sprintf("log in with: transfer login %s", a.host)
}

func (a adviser) certificateHint(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("the certificate of %s is signed by an authority that is not known here; name "+
			"its certificate with --ca-file FILE, or let --insecure check nothing", a.host)
	case errors.As(err, &name):
		return fmt.Sprintf(
			"the certificate of %s is for another name; use that name, or let --insecure check nothing",
			a.host,
		)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf(
			"the certificate of %s has expired or is not good yet; check the clock of this machine",
			a.host,
		)
	}
	return ""
}

// tlsHint is for registries that want a certificate of ours, or speak another TLS than this program.
func (a adviser) tlsHint(err error) string {
	refused, ok := errors.AsType[*wire.TLSRefused](err)
	if !ok && !asksForCertificate(err) {
		return ""
	}
	certificate := a.host + " wants a certificate of yours: name it with --cert FILE, and its key with " +
		"--key FILE"
	if a.certFile != "" {
		certificate = a.host + " does not take the certificate of --cert; ask who runs it which one it takes"
	}
	const version = "speaks no version or cipher of TLS that this program speaks (1.2 and 1.3)"
	switch {
	case !ok || refused.Certificate && !refused.Version:
		return certificate
	case refused.Certificate:
		return certificate + ", or it " + version
	case refused.Version:
		return a.host + " " + version
	}
	return a.host + " is no name that is served there; check it"
}

// asksForCertificate tells the answer of nginx, which takes the handshake for good without a certificate.
func asksForCertificate(err error) bool {
	status, ok := errors.AsType[*transfer.StatusError](err)
	return ok && status.StatusCode == http.StatusBadRequest &&
		slices.ContainsFunc(status.Errors, func(e transfer.RegistryError) bool {
			return strings.Contains(e.Message, "SSL certificate")
		})
}

// schemeHint tells http and https taken for each other.
func (a adviser) schemeHint(err error) string {
	switch {
	case !errors.Is(err, wire.ErrWrongScheme) || adviceOf(err) == "":
		return ""
	case a.repository.Scheme == "http" && a.plainHTTP:
		return fmt.Sprintf("%s speaks https; leave out --plain-http, or use https:// before the reference",
			a.repository.Host)
	case a.repository.Scheme == "http":
		return fmt.Sprintf("%s speaks https; use https:// before the reference", a.repository.Host)
	}
	return fmt.Sprintf("%s speaks http; use --plain-http, or http:// before the reference", a.repository.Host)
}

func proxyHint(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "proxyconnect" {
		return ""
	}
	return "the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be reached; " +
		"hosts in NO_PROXY are asked without it"
}

// notFoundHint is for what a registry does not have. A name in upper case is a 404 at some, a 400 at others.
func (a adviser) notFoundHint(err error) string {
	var status *transfer.StatusError
	if !errors.As(err, &status) {
		return ""
	}
	upper := a.repository.Repository != strings.ToLower(a.repository.Repository)
	switch {
	case status.StatusCode != http.StatusNotFound && (status.StatusCode != http.StatusBadRequest || !upper):
		return ""
	case strings.HasSuffix(status.URL, "/v2/"):
		return fmt.Sprintf("%s does not answer as a registry does; check its name and port", a.host)
	case upper:
		lower := a.repository.Bare()
		lower.Repository = strings.ToLower(lower.Repository)
		return fmt.Sprintf("most registries have names in lower case only; try %s", lower)
	case strings.Contains(status.URL, "/manifests/"):
		return fmt.Sprintf("list what is there: transfer tags %s", a.repository.Bare())
	case strings.HasSuffix(status.URL, "/tags/list"):
		return fmt.Sprintf("list what is there, where the registry tells: transfer repos %s", a.host)
	}
	return ""
}

// hostHint is for hosts that are not there.
func hostHint(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf(
			"check the name %s, or set HTTPS_PROXY where hosts are reached through a proxy",
			dns.Name,
		)
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there; choose another address with --listen"
	case errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, wire.ErrWrongScheme):
		return "nothing answers there; check the port, and that the registry runs"
	}
	return ""
}

// waitHint is for hosts that ask for a longer pause than the flags allow.
func waitHint(err error) string {
	long, ok := errors.AsType[*retry.LongWait](err)
	if !ok {
		return ""
	}
	const later = "run the same command again in %v, or allow the wait with a longer --retry-timeout"
	return fmt.Sprintf(later, long.Wait)
}

// freeSome is true of every form: what is whole or recorded stays.
const freeSome = "free some space and run the same command again: what is there is not fetched again"

func spaceHint(err error) string {
	var lack *model.SpaceError
	var output *outputError
	switch {
	case errors.As(err, &output) && errors.Is(err, syscall.ENOSPC):
		return "stdout goes to a disk that is full: free some space there, or send it elsewhere"
	case errors.As(err, &lack) && lack.Need > 0:
		return missingSpace(lack) + "; " + freeSome
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, transfer.ErrInsufficientSpace):
		return freeSome
	}
	return ""
}

// formHint is for models that cannot be files.
func formHint(err error) string {
	switch {
	case errors.Is(err, model.ErrUnnamed):
		return "pull it with --into blobs"
	case errors.Is(err, model.ErrPacked):
		return "--into blobs fetches it as it is"
	}
	return ""
}

// deleteHint is for registries that delete manifests and no tags.
func deleteHint(err error) string {
	tag, ok := errors.AsType[*undeleted](err)
	if !ok {
		return ""
	}
	return fmt.Sprintf("a registry may delete nothing, or no tags; where it deletes anything, the model "+
		"goes with all its tags, by its digest: transfer delete %s", tag.model)
}

// missingSpace says how much space is missing, as far as that is known.
func missingSpace(e *model.SpaceError) string {
	text := fmt.Sprintf("%s are still to be fetched to %s", formatBytes(e.Need), e.Dir)
	if e.Free >= 0 && e.Free < e.Need {
		text = fmt.Sprintf(
			"%s are missing: %s and %s are free", formatBytes(e.Need-e.Free), text, formatBytes(e.Free),
		)
	}
	return text
}

// corruptHint is for files that are not what their names say.
func (a adviser) corruptHint(err error) string {
	var blob *transfer.BlobError
	var damaged *damagedError
	if errors.As(err, &damaged) {
		return fmt.Sprintf("repair it with: transfer verify %s --from %s", damaged.dir, damaged.from)
	}
	wrong := errors.Is(err, transfer.ErrDigestMismatch) || errors.Is(err, transfer.ErrSizeMismatch) ||
		errors.Is(err, os.ErrNotExist)
	switch {
	case !wrong || !errors.As(err, &blob) || blob.Op != "upload":
		return ""
	case a.source == "":
		return "a file was changed or removed while it was pushed; run the same command again"
	}
	const repair = "the directory is damaged; repair it from where it came: transfer verify %s --from REF"
	return fmt.Sprintf(repair, a.source)
}
