package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Control turns the knobs of a Server from another process. It has a listener of its own, so that
// it counts for nothing: a socket file, which can be reached from another network namespace too.
type Control struct {
	// Base is the base URL of the registry, Socket the file through which it is controlled.
	Base, Socket string
}

// Serve serves the control endpoint of s through a socket file until done ends, and tells the other process,
// on out, where it is. It leaves s open.
func Serve(s *Server, socket string, out io.Writer, done io.Reader) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(Control{Base: s.URL(), Socket: socket}); err != nil {
		return errors.Join(err, l.Close())
	}
	go func() {
		_, _ = io.Copy(io.Discard, done) // ends with the parent, whatever becomes of it
		_ = l.Close()
	}()
	if err := http.Serve(l, s.control()); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (s *Server) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, req *http.Request) {
		var k Knobs
		err := json.NewDecoder(req.Body).Decode(&k)
		if err == nil {
			err = s.Reset(k)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.Counts())
	})
	return mux
}

// Connect reads what Serve tells.
func Connect(in io.Reader) (c Control, err error) {
	return c, json.NewDecoder(in).Decode(&c)
}

// Reset does what [Server.Reset] does.
func (c Control) Reset(k Knobs) error {
	body, err := json.Marshal(k)
	if err != nil {
		return err
	}
	resp, err := c.client().Post(controlURL+"/reset", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errKnobs, resp.Status)
	}
	return nil
}

// Counts does what [Server.Counts] does.
func (c Control) Counts() (n Counts, err error) {
	resp, err := c.client().Get(controlURL + "/counts")
	if err != nil {
		return n, err
	}
	defer resp.Body.Close()
	return n, json.NewDecoder(resp.Body).Decode(&n)
}

// controlURL names no host: a socket file has none.
const controlURL = "http://control"

// client makes one request.
func (c Control) client() *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", c.Socket)
			},
		},
	}
}
