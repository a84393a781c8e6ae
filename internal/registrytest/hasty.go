package registrytest

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// Hasty returns a handler before another that reads the body of each PUT, waits, and then sends it to
// the same URL with "&again", where it is let through.
func Hasty(next http.Handler, wait time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || strings.Contains(r.URL.RawQuery, "again") {
			next.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if !pause(r, wait) {
			panic(http.ErrAbortHandler)
		}
		http.Redirect(w, r, r.URL.String()+"&again", http.StatusTemporaryRedirect)
	})
}
