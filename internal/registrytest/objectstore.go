package registrytest

import (
	"bytes"
	"cmp"
	"crypto/md5" // object stores sum up bodies with it
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// minPart is the least size of a part that is not the last, as in S3.
const minPart = 5 << 20 // 5 MiB

// ObjectStore is the store behind an Ollama registry. Like S3 and R2 it serves signed URLs only, each for one
// method and a time, takes no Authorization beside a signature, and wants the parts of an object to be of one
// size, the last no larger. Its records and faults are its own.
type ObjectStore struct {
	*front
	reg   *Registry
	rules Ollama
	url   string

	mu         sync.Mutex // guards the fields that follow
	bodies     map[string]storedBody
	headers    map[string]http.Header // signed, by path
	presigned  int                    // numbers the signed URLs, so that no two are the same
	completed  []StoredUpload
	violations []string
}

var _ http.Handler = (*ObjectStore)(nil)

// storedBody is what the store has of one PUT.
type storedBody struct {
	data []byte
	size int64
	md5  [md5.Size]byte
}

// StoredUpload is an upload that the store has put together.
type StoredUpload struct {
	// Direct means that the blob came with one PUT and not in parts.
	Direct bool

	// Sizes are the sizes of the parts, in order.
	Sizes []int64
}

func newObjectStore(reg *Registry, o Ollama) *ObjectStore {
	return &ObjectStore{
		front: newFront(), reg: reg, rules: o,
		bodies: map[string]storedBody{}, headers: map[string]http.Header{},
	}
}

// Uploads returns the uploads that were completed, in order.
func (s *ObjectStore) Uploads() []StoredUpload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.completed)
}

// Violations returns what clients did against the rules of the registry and its store, in order. Signed URLs
// that have expired are not among them.
func (s *ObjectStore) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

func (s *ObjectStore) violated(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, what)
}

// presign returns the signed URL where part n of an upload is PUT with those headers. Parts count from 1; 0
// stands for the whole blob.
func (s *ObjectStore) presign(id string, n int, headers http.Header, lifetime time.Duration) string {
	path := objectPath(id, n)
	s.mu.Lock()
	s.headers[path] = headers
	s.presigned++
	query := url.Values{"upload": {id}, "request": {strconv.Itoa(s.presigned)}}
	s.mu.Unlock()
	if n > 0 {
		query.Set("part", strconv.Itoa(n))
	}
	expire(query, lifetime)
	signed := query.Encode()
	return s.url + path + "?" + signed + "&sig=" + signature(http.MethodPut, path, signed)
}

// objectPath returns the path of a part of an upload, or of the whole.
func objectPath(id string, n int) string { return fmt.Sprintf("/bucket/%s/%d", id, n) }

func signature(method, path, query string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte("the store's secret\n"+method+"\n"+path+"\n"+query)))
}

// expire notes in the query of a signed URL until when it is good: for ever if lifetime is 0.
func expire(query url.Values, lifetime time.Duration) {
	if lifetime > 0 {
		query.Set("expires", strconv.FormatInt(time.Now().Add(lifetime).UnixNano(), 10))
	}
}

func expired(r *http.Request) bool {
	until, err := strconv.ParseInt(r.URL.Query().Get("expires"), 10, 64)
	return err == nil && time.Now().UnixNano() > until
}

// failExpired answers as a store does to a signed URL that has expired.
func failExpired(w http.ResponseWriter, opts Options) {
	status, code := http.StatusForbidden, "AccessDenied"
	if opts.ExpiredStatus != 0 {
		status = opts.ExpiredStatus
	}
	if status == http.StatusBadRequest {
		code = "ExpiredToken"
	}
	writeStoreError(w, status, code, "Request has expired")
}

// writeStoreError answers with an error body as that of S3.
func writeStoreError(w http.ResponseWriter, status int, code, message string) {
	writeBody(w, status, "application/xml", []byte(storeErrorBody(code, message)))
}

func storeErrorBody(code, message string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>` +
		"\n<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
}

// ServeHTTP answers a request with a signed URL.
func (s *ObjectStore) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r, s.answer) }

func (s *ObjectStore) answer(w http.ResponseWriter, r *http.Request) {
	opts := s.reg.options()
	if !pause(r, opts.Latency) {
		panic(http.ErrAbortHandler)
	}
	query, sig, _ := strings.Cut(r.URL.RawQuery, "&sig=")
	s.mu.Lock()
	headers := s.headers[r.URL.Path]
	s.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "":
		s.refuse(w, http.StatusBadRequest, "InvalidRequest", "only one authentication mechanism is allowed")
	case sig != signature(r.Method, r.URL.Path, query):
		s.refuse(w, http.StatusForbidden, "SignatureDoesNotMatch", "not signed for "+r.Method+" "+r.URL.Path)
	case expired(r):
		failExpired(w, opts)
	case !hasHeaders(r.Header, headers):
		s.refuse(w, http.StatusForbidden, "SignatureDoesNotMatch", "a signed header is missing")
	case r.ContentLength < 0:
		s.refuse(w, http.StatusLengthRequired, "MissingContentLength", "a body needs a Content-Length")
	default:
		s.put(w, r)
	}
}

func hasHeaders(have, want http.Header) bool {
	for name, values := range want {
		if !slices.Equal(have.Values(name), values) {
			return false
		}
	}
	return true
}

// refuse answers a request that breaks the rules.
func (s *ObjectStore) refuse(w http.ResponseWriter, status int, code, message string) {
	s.violated(code + ": " + message)
	writeStoreError(w, status, code, message)
}

// put takes a body.
func (s *ObjectStore) put(w http.ResponseWriter, r *http.Request) {
	sum := new(bodySum)
	var data bytes.Buffer
	var to io.Writer = sum
	if !s.rules.Discard {
		to = io.MultiWriter(sum, &data)
		data.Grow(int(min(r.ContentLength, 1<<30)))
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, r.Body, make([]byte, 256<<10))
	if err != nil || n != r.ContentLength {
		writeStoreError(w, http.StatusBadRequest, "IncompleteBody", "the body ended early")
		return
	}
	body := storedBody{data: data.Bytes(), size: n, md5: sum.Sum()}
	want := r.Header.Get("Content-MD5")
	if want != "" && want != base64.StdEncoding.EncodeToString(body.md5[:]) {
		s.refuse(w, http.StatusBadRequest, "BadDigest", "the Content-MD5 is not that of the body")
		return
	}
	s.mu.Lock()
	s.bodies[r.URL.Path] = body
	s.mu.Unlock()
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, body.md5))
	w.WriteHeader(http.StatusOK)
}

// abort forgets an upload.
func (s *ObjectStore) abort(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path := range s.bodies {
		if strings.HasPrefix(path, "/bucket/"+id+"/") {
			delete(s.bodies, path)
		}
	}
}

// complete puts together an upload whose parts end at those places, if etag sums them up. Otherwise it
// returns what is wrong.
func (s *ObjectStore) complete(id string, ends []int64, etag string) (data []byte, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if whole, ok := s.bodies[objectPath(id, 0)]; ok {
		s.completed = append(s.completed, StoredUpload{Direct: true, Sizes: []int64{whole.size}})
		return whole.data, ""
	}
	sums := md5.New()
	var parts []storedBody
	var sizes []int64
	start := int64(0)
	for i, end := range ends {
		part, ok := s.bodies[objectPath(id, i+1)]
		if !ok || part.size != end-start {
			return nil, fmt.Sprintf("InvalidPart: part %d has %d bytes of %d", i, part.size, end-start)
		}
		start = end
		sums.Write(part.md5[:])
		parts, sizes = append(parts, part), append(sizes, part.size)
	}
	if why := s.checkSizes(sizes, start); why != "" {
		return nil, why
	}
	if want := fmt.Sprintf("%x-%d", sums.Sum(nil), len(sizes)); etag != want {
		return nil, fmt.Sprintf("InvalidPart: the etag is %q, that of the parts is %q", etag, want)
	}
	s.completed = append(s.completed, StoredUpload{Sizes: sizes})
	return joined(parts), ""
}

// joined returns the data of parts, one after the other.
func joined(parts []storedBody) (data []byte) {
	if len(parts) == 1 {
		return parts[0].data
	}
	for _, part := range parts {
		data = append(data, part.data...)
	}
	return data
}

// checkSizes returns what is wrong with the sizes of the parts of an upload. All but the last are of one
// size, and the last is no larger.
func (s *ObjectStore) checkSizes(sizes []int64, total int64) string {
	least := cmp.Or(s.rules.MinPart, minPart)
	if want := ollamaPartSize(total); s.rules.ExactParts && len(sizes) > 0 && sizes[0] != min(want, total) {
		return fmt.Sprintf("the parts of a blob of %d have %d bytes: want %d", total, sizes[0], want)
	}
	for i, size := range sizes {
		last := i == len(sizes)-1
		switch {
		case !last && size < least:
			return fmt.Sprintf("EntityTooSmall: part %d has %d bytes, less than %d", i, size, least)
		case !last && size != sizes[0], size > sizes[0]:
			return fmt.Sprintf("InvalidPart: part %d has %d bytes, the first has %d", i, size, sizes[0])
		}
	}
	return ""
}
