package registrytest_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/modeltransfer/transfer/internal/registrytest"
)

// statuses asks n times and returns what came back.
func statuses(t *testing.T, s *registrytest.Server, method, path string, n int) []int {
	var got []int
	for range n {
		got = append(got, ask(t, s.Client, method, s.URL+path, "").status)
	}
	return got
}

func TestScriptSteps(t *testing.T) {
	for script, want := range map[string][]int{
		"503":                      {503, 200, 200, 200, 200},
		"2*503->1*404->ok->500":    {503, 503, 404, 200, 500},
		"ok -> 3 * 503":            {200, 503, 503, 503, 200},
		"502->**503":               {502, 503, 503, 503, 503},
		"** 503":                   {503, 503, 503, 503, 503},
		"2*ok->**429(a: b)":        {200, 200, 429, 429, 429},
		" delay(1ms) + 503 -> 501": {503, 501, 200, 200, 200},
	} {
		t.Run(script, func(t *testing.T) {
			reg := registrytest.New(registrytest.Options{})
			s := registrytest.ServeInMemory(t, reg, registrytest.H1)
			reg.Fault("GET", "/v2/", script)
			assert.Equal(t, want, statuses(t, s, "GET", "/v2/", 5))
		})
	}
}

func TestScriptsTakeTurns(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	s := registrytest.ServeInMemory(t, reg, registrytest.H1)
	first := reg.Fault("GET", "/v2", "501")
	other := reg.Fault("HEAD", "", "504")
	query := reg.Fault("", "x=1", "502")
	rest := reg.Fault("", "", "2*503->**500")
	assert.Equal(t, 3, rest.Left())
	assert.Equal(t, []int{501, 502}, statuses(t, s, "GET", "/v2/?x=1", 2))
	assert.True(t, first.Done() && query.Done())
	assert.Equal(t, []int{503, 503}, statuses(t, s, "GET", "/v2/", 2))
	assert.Equal(t, 1, rest.Left())
	assert.Equal(t, []int{500}, statuses(t, s, "GET", "/v2/", 1))
	assert.True(t, rest.Done())
	assert.False(t, other.Done())
	assert.Equal(t, []int{504, 500}, statuses(t, s, "HEAD", "/v2/", 2))
	rest.Stop()
	assert.Equal(t, []int{200}, statuses(t, s, "GET", "/v2/", 1))
}

func TestBadScriptPanics(t *testing.T) {
	reg := registrytest.New(registrytest.Options{})
	for _, script := range []string{
		"", "->", "503->", "sputter", "0*503", "-1*503", "**503->ok", "99", "1000", "reset(x)", "reset(",
		"reset(1)x",
		"reset(-1)", "eof", "hangup(1)", "delay", "delay(soon)", "slow(0)", "redirect", "header", "header(x)",
		"encoding",
		"503+range(x)", "429(x)", "clen", "errorbody(many)", "1Q*503", "stall(9999999999G)", "503 404",
		"says(204, x)", "says(206, x)", "says(304, x)", "s3(206 x)",
	} {
		t.Run(script, func(t *testing.T) {
			defer func() {
				assert.Contains(t, recover(), fmt.Sprintf("registrytest: fault script %q: ", script))
			}()
			reg.Fault("", "", script)
		})
	}
}
