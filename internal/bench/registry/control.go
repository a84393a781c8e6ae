package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Control turns the knobs of a Server from another process. It has a listener of its own, so that
// it counts for nothing.
type Control struct {
	// Base is the base URL of the registry, Address where it is controlled.
	Base, Address string
}

// Serve serves the control endpoint of s until done ends, and tells the other process, on out,
// where it is. It leaves s open.
func Serve(s *Server, out io.Writer, done io.Reader) error {
	l, err := listen()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(Control{Base: s.URL(), Address: "http://" + l.Addr().String()}); err != nil {
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
	resp, err := client.Post(c.Address+"/reset", "application/json", bytes.NewReader(body))
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
	resp, err := client.Get(c.Address + "/counts")
	if err != nil {
		return n, err
	}
	defer resp.Body.Close()
	return n, json.NewDecoder(resp.Body).Decode(&n)
}

var client = &http.Client{Timeout: 10 * time.Second}
