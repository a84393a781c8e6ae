package serve

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// serveTags lists the tags of a repository, in order.
func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request, name, _ string) {
	tags, err := r.store.tags(name)
	if err != nil {
		unknownManifest(w, r.store.repository(name), err)
		return
	}
	answerJSON(w, map[string]any{"name": name, "tags": page(w, req, slices.Sorted(maps.Keys(tags)))})
}

// catalog lists the repositories, in order.
func (r *Registry) catalog(w http.ResponseWriter, req *http.Request) {
	names, err := r.store.repositories()
	if err != nil {
		fail(w, err)
		return
	}
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
