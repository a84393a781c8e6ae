package push

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestU24From(t *testing.T) {
	const (
		host = "registry.test:5000"
		sum  = "@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	)
	for name, want := range map[string]string{
		"llama3.2":                              "library/llama3.2",
		"llama3.2:latest":                       "library/llama3.2",
		"llama3.2" + sum:                        "library/llama3.2",
		"llama3.2:latest" + sum:                 "library/llama3.2",
		"me/tensors":                            "me/tensors",
		"me/tensors:latest":                     "me/tensors",
		"me/x..y:latest":                        "me/x..y",
		"../tensors":                            "",
		"me/..":                                 "",
		"me/./tensors":                          "",
		"a/b/c":                                 "a/b/c",
		host + "/me/tensors:latest":             "me/tensors",
		host + "/tensors":                       "library/tensors",
		"REGISTRY.test:5000/me/tensors" + sum:   "me/tensors",
		"http://" + host + "/me/tensors:latest": "me/tensors",
		"other.test/me/tensors:latest":          "",
		"other.test:5000/tensors":               "",
		"localhost/me/tensors":                  "",
		"localhost:11434/tensors:latest":        "",
		"registry.test/me/tensors":              "",
		"":                                      "",
		":latest":                               "",
		"/":                                     "",
		"me/../tensors":                         "",
		"me//tensors":                           "",
		"me/tensors?x=y":                        "",
		"https://other.test":                    "",
		"ftp://other.test/me/tensors":           "",
		sum:                                     "",
		host + "/":                              "",
	} {
		var all []string
		if want != "" {
			all = []string{want}
		}
		assert.Equal(t, all, repositories(host, []string{name}), name)
	}
}

func TestU24FromOfSeveralNames(t *testing.T) {
	names := []string{"", "a/b:1", "x.test/a/b", "c", "a/b", "library/c"}
	assert.Equal(t, []string{"a/b", "library/c"}, repositories("h.test", names))
	assert.Empty(t, repositories("h.test", nil))
}

func FuzzU24From(f *testing.F) {
	for _, seed := range []string{"name", "name:tag", "ns/name:tag", "h:1/ns/name:tag", "a@b", "h:1/://x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, got := range repositories("h:1", []string{name}) {
			assert.Regexp(t, `^[A-Za-z0-9._~+-]+(/[A-Za-z0-9._~+-]+)+$`, got)
			assert.NotContains(t, "/"+got+"/", "/../")
		}
	})
}
