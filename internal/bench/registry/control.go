package registry

import (
	"encoding/json"
	"io"
)

// request is what another process asks of a Server: a reset or, without one, its counts.
type request struct{ Reset *Knobs }

// answer is what it is told. The first one, to no request, says where the registry is.
type answer struct {
	Base   string
	Counts Counts
}

// Serve answers the requests of another process, which turns the knobs of s and reads its counts, until in
// ends with that process. Nothing of it is counted, and it is heard in another network namespace too.
func Serve(s *Server, in io.Reader, out io.Writer) error {
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	a := answer{Base: s.URL()}
	for {
		if err := answers.Encode(a); err != nil {
			return err
		}
		var r request
		if err := requests.Decode(&r); err != nil {
			return nil
		}
		a = answer{}
		if r.Reset != nil {
			s.Reset(*r.Reset)
		} else {
			a.Counts = s.Counts()
		}
	}
}

// Control is the other end of Serve.
type Control struct {
	Base     string // URL of the registry
	requests *json.Encoder
	answers  *json.Decoder
}

// Connect reads where the registry is.
func Connect(in io.Reader, out io.Writer) (c Control, err error) {
	c = Control{requests: json.NewEncoder(out), answers: json.NewDecoder(in)}
	var a answer
	err = c.answers.Decode(&a)
	c.Base = a.Base
	return c, err
}

// Reset does what [Server.Reset] does.
func (c Control) Reset(k Knobs) error {
	_, err := c.ask(request{Reset: &k})
	return err
}

// Counts does what [Server.Counts] does.
func (c Control) Counts() (Counts, error) {
	a, err := c.ask(request{})
	return a.Counts, err
}

func (c Control) ask(r request) (a answer, err error) {
	if err := c.requests.Encode(r); err != nil {
		return a, err
	}
	return a, c.answers.Decode(&a)
}
