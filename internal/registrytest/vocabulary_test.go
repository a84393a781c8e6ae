package registrytest

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Programs are told every fault there is.
func TestEveryFaultIsDocumented(t *testing.T) {
	source, err := os.ReadFile("../../registry/registrytest/registrytest.go")
	require.NoError(t, err)
	for name := range vocabulary {
		assert.Regexp(t, `(?m)^//(.*[ \t])?`+name+`\b`, string(source))
	}
}
