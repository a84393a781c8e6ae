package registrytest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

// HTTP/2 runs a handler as a goroutine that may begin when its connection, and the test, have ended.
func TestNoHandlerBeginsAfterClose(t *testing.T) {
	ran := 0
	s := ServeInMemory(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran++ }), H2)
	request := httptest.NewRequest("GET", "/v2/", nil)
	s.http.Handler.ServeHTTP(httptest.NewRecorder(), request)
	s.Close()
	s.http.Handler.ServeHTTP(httptest.NewRecorder(), request)
	assert.Equal(t, 1, ran)
}
