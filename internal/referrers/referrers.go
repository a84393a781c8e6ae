// Package referrers keeps the list of the manifests that have another one as their subject, where a registry
// has no API for it: an index under a tag that is made of the subject's digest (OCI distribution spec,
// "Referrers Tag Schema").
//
// The list is read, changed and written, and somebody else may do the same at that time. Within a process,
// one writer does so at a time. Where the registry gives an ETag, it is asked to write only over what was
// read, and what it has is looked at afterwards, since few registries heed that: where the change is not in
// it, it is made again.
package referrers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/modeltransfer/transfer/internal/calls"
	"github.com/modeltransfer/transfer/internal/manifest"
	"github.com/modeltransfer/transfer/internal/retry"
	"github.com/modeltransfer/transfer/internal/sentinel"
	"github.com/modeltransfer/transfer/internal/wire"
)

const (
	// maxIndex is the largest list that is read, as of any manifest.
	maxIndex = 4 << 20 // 4 MiB

	// maxConflicts is how often a change is made again because another writer was faster.
	maxConflicts = 10
)

// Descriptor is one entry of a list (OCI image spec, "Content Descriptors").
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// notInTag is what a tag must not have in it.
var notInTag = regexp.MustCompile(`[^a-zA-Z0-9._-]`)

// tag returns the tag of the list of a subject.
func tag(subject digest.Digest) string {
	cut := func(s string, most int) string {
		return notInTag.ReplaceAllString(s[:min(len(s), most)], "-")
	}
	return cut(subject.Algorithm().String(), 32) + "-" + cut(subject.Encoded(), 64)
}

// Subject returns the subject of a manifest that is under a tag or a digest, and what the list of that says
// of the manifest. The subject is "" where it has none.
func Subject(ref string, data []byte, mediaType string) (subject digest.Digest, entry Descriptor, err error) {
	var m struct {
		ArtifactType string            `json:"artifactType"`
		Annotations  map[string]string `json:"annotations"`
		Subject      *struct {
			Digest digest.Digest `json:"digest"`
		} `json:"subject"`
		Config struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Subject == nil {
		return "", Descriptor{}, nil // what is no manifest is the registry's to judge
	}
	if err := m.Subject.Digest.Validate(); err != nil {
		return "", Descriptor{}, fmt.Errorf("%w: its subject is %.100q: %w",
			sentinel.ErrManifest, m.Subject.Digest, err)
	}
	entry = Descriptor{
		MediaType: mediaType, ArtifactType: m.ArtifactType, Annotations: m.Annotations,
		Digest: digest.FromBytes(data), Size: int64(len(data)),
	}
	if dg := digest.Digest(ref); dg.Validate() == nil {
		entry.Digest = dg // perhaps of another algorithm
	}
	if entry.ArtifactType == "" {
		entry.ArtifactType = m.Config.MediaType
	}
	return m.Subject.Digest, entry, nil
}

// Listed reports whether the answer to a PUT says that the registry lists the manifest itself.
func Listed(h http.Header, subject digest.Digest) bool {
	return h.Get("OCI-Subject") == subject.String()
}

// Lists are the lists of a repository.
type Lists struct {
	*calls.Asker
	Registry   *wire.Registry
	Repository string
}

// Add adds an entry to the list of a subject.
func (l *Lists) Add(ctx context.Context, subject digest.Digest, entry Descriptor) error {
	raw, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	return l.change(ctx, subject, func(list []json.RawMessage) ([]json.RawMessage, bool) {
		if indexOf(list, entry.Digest) >= 0 {
			return nil, false
		}
		return append(list, raw), true
	})
}

// Remove removes an entry from the list of a subject.
func (l *Lists) Remove(ctx context.Context, subject, entry digest.Digest) error {
	return l.change(ctx, subject, func(list []json.RawMessage) ([]json.RawMessage, bool) {
		i := indexOf(list, entry)
		if i < 0 {
			return nil, false
		}
		return slices.Delete(list, i, i+1), true
	})
}

func indexOf(list []json.RawMessage, dg digest.Digest) int {
	return slices.IndexFunc(list, func(raw json.RawMessage) bool {
		var d Descriptor
		return json.Unmarshal(raw, &d) == nil && d.Digest == dg
	})
}

// change reads the list and writes it as edited, until there is nothing to change in what is read.
func (l *Lists) change(
	ctx context.Context, subject digest.Digest,
	edit func([]json.RawMessage) (list []json.RawMessage, changed bool),
) error {
	target := l.Registry.Manifest(l.Repository, tag(subject))
	unlock, err := locks.lock(ctx, target.URL.String())
	if err != nil {
		return err
	}
	defer unlock()
	unheeded := "" // an ETag for which a write was refused though it is that of the list
	for n := range maxConflicts {
		i, err := l.read(ctx, target)
		if err != nil {
			return fmt.Errorf("referrers of %s: %w", subject, err)
		}
		list, changed := edit(i.list)
		if !changed {
			return nil
		}
		if i.etag == unheeded {
			i.etag = ""
		}
		refused, err := l.write(ctx, target, i, list)
		if err != nil {
			return fmt.Errorf("referrers of %s: %w", subject, err)
		}
		if refused {
			unheeded = i.etag
		}
		if n > 0 { // it was lost once
			if err := retry.Sleep(ctx, retry.Delay(n, retry.MaxDelay)); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("%w: referrers of %s: others have written them %d times meanwhile",
		retry.ErrExhausted, subject, maxConflicts)
}

// index is a list as it was read. The zero value is that of a subject that has none.
type index struct {
	all  map[string]json.RawMessage // the fields of the index
	list []json.RawMessage
	etag string
}

// Read returns the index that lists the referrers of a subject, nil where there is none.
func (l *Lists) Read(ctx context.Context, subject digest.Digest) ([]byte, error) {
	ans, err := l.get(ctx, l.Registry.Manifest(l.Repository, tag(subject)))
	if err != nil || ans == nil {
		return nil, err
	}
	return ans.Data, checkIndex(ans)
}

// get fetches a list. The answer is nil where there is none.
func (l *Lists) get(ctx context.Context, target wire.Target) (ans *calls.Answer, err error) {
	request := wire.Request{
		Method: http.MethodGet, Target: target, Header: http.Header{"Accept": {manifest.OCIIndex}},
	}
	err = l.Retry(ctx, target, func(ctx context.Context, b *retry.Budget) (err error) {
		ans, err = l.Send(ctx, request, b, maxIndex, http.StatusNotFound)
		return err
	})
	if err != nil || ans.StatusCode == http.StatusNotFound {
		return nil, err
	}
	return ans, nil
}

func (l *Lists) read(ctx context.Context, target wire.Target) (i index, err error) {
	ans, err := l.get(ctx, target)
	if err != nil || ans == nil {
		return index{}, err
	}
	if err := checkIndex(ans); err != nil {
		return index{}, err
	}
	i.etag = ans.Header.Get("ETag")
	if err := json.Unmarshal(ans.Data, &i.all); err != nil {
		return index{}, ans.Broken("%w", err)
	}
	if raw := i.all["manifests"]; raw != nil {
		if err := json.Unmarshal(raw, &i.list); err != nil {
			return index{}, ans.Broken("its manifests cannot be read: %w", err)
		}
	}
	return i, nil
}

// checkIndex refuses what is no index: another manifest may have this tag, and is not to be overwritten.
func checkIndex(ans *calls.Answer) error {
	contentType := ans.Header.Get("Content-Type")
	if !manifest.IsObject(ans.Data) || manifest.Told(ans.Data, contentType) != manifest.OCIIndex {
		return ans.Broken("there is something else than an index of referrers")
	}
	if err := manifest.CheckOne(ans.Data, contentType); err != nil {
		return ans.Broken("%w", err)
	}
	return nil
}

// write writes a list over what was read. It tells whether the registry has refused that because of the ETag.
func (l *Lists) write(
	ctx context.Context, target wire.Target, i index, list []json.RawMessage,
) (refused bool, err error) {
	if i.all == nil {
		i.all = make(map[string]json.RawMessage)
	}
	i.all["schemaVersion"] = json.RawMessage("2")
	i.all["mediaType"] = json.RawMessage(`"` + manifest.OCIIndex + `"`)
	if i.all["manifests"], err = json.Marshal(list); err != nil {
		return false, err
	}
	data, err := json.Marshal(i.all)
	if err != nil {
		return false, err
	}
	request := wire.Request{
		Method: http.MethodPut, Target: target,
		Header: http.Header{"Content-Type": {manifest.OCIIndex}},
		Data:   data,
	}
	if i.etag != "" {
		request.Header.Set("If-Match", i.etag)
	}
	err = l.Retry(ctx, target, func(ctx context.Context, b *retry.Budget) error {
		ans, err := l.Send(ctx, request, b, maxIndex, http.StatusPreconditionFailed)
		refused = err == nil && ans.StatusCode == http.StatusPreconditionFailed
		return err
	})
	return refused, err
}
