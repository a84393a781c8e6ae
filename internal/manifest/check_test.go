package manifest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/modeltransfer/transfer/internal/sentinel"
)

func TestCheckReferenceAndPush(t *testing.T) {
	data := []byte("{}")
	const dg = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	require.NoError(t, CheckPush("latest", data))
	require.NoError(t, CheckPush(dg, data))
	require.ErrorIs(t, CheckPush(dg, []byte("{ }")), sentinel.ErrDigestMismatch)
	require.ErrorIs(t, CheckReference("a/b"), sentinel.ErrInvalidOption)
	require.ErrorIs(t, CheckReference("sha256:abc"), sentinel.ErrInvalidDigest)
	require.ErrorIs(t, CheckReference(""), sentinel.ErrInvalidOption)
}

// What is taken is what every reader takes it for, whatever the server calls it: those that know no case,
// and those that take the first or the last of two fields.
func FuzzH3OneDigestIsOneManifest(f *testing.F) {
	for _, seed := range []string{
		`{"schemaVersion":2,"config":{},"layers":[]}`,
		`{"manifests":[],"layers":null}`, `{"layers":[],"Layers":[1]}`,
		`{"layers":[{"digest":"a"}],"layers":[]}`, `{"mediaType":"` + OCIIndex + `","manifests":[]}`,
		`{"annotations":{"a":1,"A":[{"Layers":2}]},"fsLayers":[]}`,
		`{"config":{"Config":{}}}`, `[{"layers":1}]`,
	} {
		f.Add([]byte(seed), ociImage)
		f.Add([]byte(seed), "text/plain")
	}
	f.Fuzz(func(t *testing.T, data []byte, contentType string) {
		if CheckOne(data, contentType) != nil || !IsObject(data) {
			return
		}
		var exact map[string]json.RawMessage
		var folded document
		require.NoError(t, json.Unmarshal(data, &exact))
		require.NoError(t, json.Unmarshal(data, &folded))
		read := make(map[string]json.RawMessage) // by all spellings, of which each field has one
		for name, value := range exact {
			read[asGoReads(name)] = value
		}
		for name, value := range map[string]json.RawMessage{
			"config": folded.Config, "layers": folded.Layers, "manifests": folded.Manifests,
			"fsLayers": folded.FSLayers, "blobs": folded.Blobs,
		} {
			assert.Equal(t, string(read[name]), string(value), name)
		}
		kinds := folded.kinds()
		require.LessOrEqual(t, len(kinds), 1)
		if is := kindOf(Told(data, contentType)); is != "" && len(kinds) == 1 {
			assert.Equal(t, is, kinds[0])
		}
	})
}
