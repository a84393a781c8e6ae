package serve

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// serveTags lists the tags of a repository, in order.
func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request, name, _ string) {
	tags, err := r.tags(name)
	if err != nil {
		r.unknownManifest(w, name, err)
		return
	}
	answerJSON(w, map[string]any{"name": name, "tags": page(w, req, slices.Sorted(maps.Keys(tags)))})
}

// tags returns the tags of a repository that lead to a manifest.
func (r *Registry) tags(name string) (map[string]digest.Digest, error) {
	entries, err := os.ReadDir(filepath.Join(r.repository(name), "_tags"))
	if err != nil {
		return nil, err
	}
	tags := make(map[string]digest.Digest, len(entries))
	for _, e := range entries {
		text, err := readFile(r.manifestEntry(name, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		dg := digest.Digest(strings.TrimSpace(string(text)))
		if !r.has(dg) {
			continue
		}
		if _, err := os.Stat(r.manifestEntry(name, dg.String())); err == nil {
			tags[e.Name()] = dg
		}
	}
	return tags, nil
}

// catalog lists the repositories, in order.
func (r *Registry) catalog(w http.ResponseWriter, req *http.Request) {
	names := []string{}
	root := os.DirFS(filepath.Join(r.dir, "repositories"))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "_manifests" {
			names = append(names, path.Dir(name))
			return fs.SkipDir
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fail(w, err)
		return
	}
	slices.Sort(names)
	answerJSON(w, map[string]any{"repositories": page(w, req, names)})
}

// page cuts out of a list what a request asks for, and says where the next begins.
func page(w http.ResponseWriter, req *http.Request, list []string) []string {
	query := req.URL.Query()
	if last := query.Get("last"); last != "" {
		i, found := slices.BinarySearch(list, last)
		if found {
			i++
		}
		list = list[i:]
	}
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n > 0 && n < len(list) {
		list = list[:n]
		next := url.Values{"n": {strconv.Itoa(n)}, "last": {list[n-1]}}
		w.Header().Set("Link", "<"+req.URL.Path+"?"+next.Encode()+`>; rel="next"`)
	}
	return append([]string{}, list...)
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // only the client can fail it
}
