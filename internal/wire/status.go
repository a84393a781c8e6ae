package wire

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Temporary reports whether the same request may succeed later although it was answered with the status.
func Temporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout,
		520, 521, 522, 523, 524, 530: // Cloudflare's, for a server behind it that fails or does not answer
		return true
	}
	return false
}

// TemporaryAnswer reports the same of an answer whose errors are known. Amazon S3 and its kin have codes
// for what passes, and send them with statuses that do not say so.
func TemporaryAnswer(status int, errs []RegistryError) bool {
	timedOut := func(e RegistryError) bool { return e.Code == "RequestTimeout" }
	return Temporary(status) || status == http.StatusBadRequest && slices.ContainsFunc(errs, timedOut)
}

// RefusesRange reports whether a status may be the refusal of a range by a server that serves the blob
// without one (containerd#11953, aria2#1627). A 500 may also be a failure that passes. A 401, 404 and their
// kin are about who asks, or say that there is no blob.
func RefusesRange(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusNotImplemented:
		return true
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusProxyAuthRequired, http.StatusGone:
		return false
	}
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError && !Temporary(status)
}

// LooksLikeWebPage reports whether an answer that should be a registry's is a page for people instead, as
// that of a captive portal, of a single sign-on proxy, or of the front page at a wrong host (harbor#15843).
// An answer with a registry's headers, or without a body, is none, even where it is called HTML.
func LooksLikeWebPage(h http.Header) bool {
	kind := MediaType(h.Get("Content-Type"))
	return (kind == "text/html" || kind == "application/xhtml+xml") &&
		h.Get("Content-Length") != "0" && !isFromRegistry(h)
}

// MediaType returns the media type of a Content-Type without its parameters, which nobody needs and some
// write wrong: package mime takes a type with two charsets for none.
func MediaType(contentType string) string {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(mediaType))
}

func isFromRegistry(h http.Header) bool {
	return h.Get("Docker-Distribution-Api-Version") != "" || h.Get("Docker-Content-Digest") != "" ||
		h.Get("Docker-Upload-Uuid") != ""
}

// ExistsBehindRedirect reports whether the answer to a HEAD of a blob means that the blob exists although
// its status is an error: the registry has led to its object store, as it does only for a blob that it has,
// and the store has refused the method (artifact-keeper#3209). Signed URLs are good for one method, which
// mostly is GET.
//
// A redirect to a page where people log in is not one to an object store. So the redirect must have a
// registry's headers, or its URL the blob's digest in its path or a signature.
func (r *Response) ExistsBehindRedirect(dg digest.Digest) bool {
	switch r.StatusCode {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
	default:
		return false
	}
	if r.referral == nil || r.Target.atHome() {
		return false
	}
	u := r.Target.URL
	return isFromRegistry(r.referral) || strings.Contains(u.Path, dg.Encoded()) || isSigned(u.Query())
}

// isSigned reports whether a query is that of a signed URL of Amazon S3, Google Cloud Storage, Azure or their
// kin. SAML has a Signature too, but it does not expire.
func isSigned(query url.Values) bool {
	return query.Has("X-Amz-Signature") || query.Has("X-Goog-Signature") ||
		query.Has("sig") && query.Has("se") || query.Has("Signature") && query.Has("Expires")
}
