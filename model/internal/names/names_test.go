package names_test

import (
	"strings"
	"testing"

	"github.com/modeltransfer/transfer/model/internal/names"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestH2L1NamesThatMeanSomethingAreRefused(t *testing.T) {
	for _, name := range []string{
		// the tool's own state, as some file system spells it
		".transfer", ".transfer/record.json", ".TRANSFER/x", "sub/.transfer/x", ".Transfer.", ".transfer ",
		".transfer. . /x", ".tran\u200csfer", ".trans\u00adfer/x", "\ufeff.transfer", ".tran\u017ffer",
		"TRANSF~1/x", ".transfer.x.new",
		// blobs, their partials, journals and places
		"sha256-" + hex, "SHA256-" + strings.ToUpper(hex), "sub/sha256-" + hex, "sha256-" + hex + ".partial",
		"sha256:" + hex, "sha512-" + hex + hex, "sha256-" + hex + ".", "blobs/sha256-" + hex,
		"sha\u200d256-" + hex, "blobs/sha256/" + hex, "Blobs/SHA256/" + hex, "sub/blobs/sha256/" + hex,
		"sha256/" + hex, "sha256./" + hex,
		"oci-layout", "OCI-Layout", "sub/oci-layout", "oci-layout.",
		// what some system cannot have, or not alone
		`a\b`, "a\nb", "a\rb", "Icon\r", "a\x00b", "a\x7fb", "a\u0085b", "a\xffb", "...", "a/ /b", "\u200b",
		strings.Repeat("a", 256), strings.Repeat("a/", 3000),
		// ways out
		"..", "../x", "a/../../x", "/etc/passwd", "", ".", "./",
	} {
		_, err := names.Check(name)
		require.ErrorIs(t, err, names.ErrName, "%q", name)
	}
}

func TestL1OrdinaryNamesPass(t *testing.T) {
	for name, want := range map[string]string{
		"model.safetensors": "", "a b/模型-é.gguf": "", "model.safetensors.index.json": "",
		"manifest.json": "", "Model.mlpackage/Manifest.json": "", "index.json": "", "transfer": "",
		"sha256sums.txt": "", ".gitignore": "", ".github/x": "", "a/..b": "", "👩‍💻.md": "",
		"aux.c": "", hex: "", "./a//b/../c": "a/c", "blobs/" + hex: "",
	} {
		got, err := names.Check(name)
		require.NoError(t, err, "%q", name)
		if want == "" {
			want = name
		}
		assert.Equal(t, want, got)
		assert.False(t, names.LeftOut(name))
	}
}

func TestH12WhatGitKeepsIsLeftOut(t *testing.T) {
	for _, name := range []string{
		".git", ".git/hooks/pre-commit", "sub/.git/config", ".GIT/x", ".git./x", ".g\u200cit/x", "git~1/x",
		"Icon\r", "sub/icon\r",
	} {
		assert.True(t, names.LeftOut(name), "%q", name)
	}
}

func TestH4S26PathsThatCannotBeTogether(t *testing.T) {
	for name, test := range map[string]struct {
		folding bool
		paths   []string // a slash at the end is a directory, a tilde before it the owner's own
		good    bool
	}{
		"two files":                     {false, []string{"a", "a"}, false},
		"a file and a directory":        {false, []string{"d", "d/a.txt"}, false},
		"the reverse":                   {false, []string{"d/a.txt", "d"}, false},
		"a file above":                  {false, []string{"d", "d/e/f/a.txt"}, false},
		"a directory twice":             {false, []string{"d/", "d/", "d/a"}, true},
		"a file and an empty directory": {false, []string{"d", "d/"}, false},
		"cases apart":                   {false, []string{"A", "a"}, true},
		"cases folded":                  {true, []string{"A", "a"}, false},
		"directories of two cases":      {true, []string{"D/a", "d/b"}, true},
		"files below two cases":         {true, []string{"D/a", "d/A"}, false},
		"composed and decomposed":       {true, []string{"\u00e9", "e\u0301"}, false},
		"sharp s":                       {true, []string{"ß", "SS"}, false},
		"a dot at the end":              {true, []string{"a.", "a"}, false},
		"an archive and a file in it":   {false, []string{"d/a", "~d"}, false},
		"archives in one another":       {false, []string{"~d", "~d/e"}, false},
		"the reverse of these":          {false, []string{"~d/e", "~d"}, false},
		"archives side by side":         {false, []string{"~d/e", "~d/f", "d/g"}, true},
	} {
		set, err := &names.Set{Folding: test.folding}, error(nil)
		for _, p := range test.paths {
			if own, ok := strings.CutPrefix(p, "~"); ok && err == nil {
				err = set.Own(own)
			} else if err == nil {
				err = set.Add(strings.TrimSuffix(p, "/"), strings.HasSuffix(p, "/"))
			}
		}
		if test.good {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, names.ErrName, name)
		}
	}
}

func FuzzL1Names(f *testing.F) {
	f.Add("a/b")
	f.Add(".transfer\u200c/x")
	f.Add("0.transfer/x")
	f.Fuzz(func(t *testing.T, name string) {
		clean, err := names.Check(name)
		if err != nil {
			return
		}
		again, err := names.Check(clean)
		require.NoError(t, err)
		require.Equal(t, clean, again)
		folded := names.Fold(clean)
		require.Equal(t, folded, names.Fold(folded))
		require.NotContains(t, "/"+folded, "/.transfer/")
	})
}
