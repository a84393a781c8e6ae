package main

import (
	"encoding/json"
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
	r = runWith(t, "tags", name+"-none")
	assert.Equal(t, exitFailed, r.code)
	host, _, _ := strings.Cut(name, "/")
	assert.Contains(t, r.stderr, "where the registry tells: transfer repos "+host+"\n")
}
