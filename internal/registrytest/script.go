package registrytest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
)

// Script is what [Registry.Fault] was told. Its steps are used up by the requests it matches.
type Script struct {
	method, part string
	steps        []step
	owner        *faults
}

// step is one plan and how many requests it still takes.
type step struct {
	left int
	plan plan
}

// forever is the count of a step that is never used up.
const forever = math.MaxInt

// Done reports whether every step has been taken, "**" steps at least once.
func (s *Script) Done() bool { return s.Left() == 0 }

// Left returns how many requests the script still waits for, counting a "**"
// step that was not reached as one.
func (s *Script) Left() int {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	n := 0
	for _, st := range s.steps {
		switch {
		case st.left != forever:
			n += st.left
		case !st.plan.used:
			n++
		}
	}
	return n
}

// Stop ends the script: all is well with the requests that follow.
func (s *Script) Stop() {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	s.steps = nil
}

// take returns the plan for the next request, or nil when the script is over.
func (s *Script) take() *plan {
	for i := range s.steps {
		st := &s.steps[i]
		if st.left == 0 {
			continue
		}
		if st.left != forever {
			st.left--
		}
		st.plan.used = true
		return &st.plan
	}
	return nil
}

// faults are the scripts of one handler.
type faults struct {
	mu      sync.Mutex // guards the field that follows and the steps
	scripts []*Script
}

func (f *faults) add(method, part, text string) (*Script, error) {
	steps, err := parseScript(text)
	if err != nil {
		return nil, fmt.Errorf("registrytest: fault script %q: %w", text, err)
	}
	s := &Script{method: method, part: part, steps: steps, owner: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scripts = append(f.scripts, s)
	return s, nil
}

// next returns a copy of the plan for the request.
func (f *faults) next(r *Request) plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.scripts {
		if !r.matches(s.method, s.part) {
			continue
		}
		if p := s.take(); p != nil {
			return *p
		}
	}
	return newPlan()
}

func parseScript(text string) ([]step, error) {
	var steps []step
	for _, part := range split(text, "->") {
		st, err := parseStep(part)
		if err != nil {
			return nil, err
		}
		if n := len(steps); n > 0 && steps[n-1].left == forever {
			return nil, fmt.Errorf("%q comes after a step that never ends", part)
		}
		steps = append(steps, st)
	}
	return steps, nil
}

func parseStep(text string) (step, error) {
	st := step{left: 1, plan: newPlan()}
	rest := strings.TrimSpace(text)
	if after, ok := strings.CutPrefix(rest, "**"); ok {
		st.left, rest = forever, after
	} else if count, after, ok := strings.Cut(rest, "*"); ok && !strings.Contains(count, "(") {
		n, err := strconv.Atoi(strings.TrimSpace(count))
		if err != nil || n < 1 {
			return step{}, fmt.Errorf("%q: not a count", count)
		}
		st.left, rest = n, after
	}
	for _, part := range split(rest, "+") {
		if err := parseFault(&st.plan, part); err != nil {
			return step{}, err
		}
	}
	return st, st.plan.check(text)
}

func parseFault(p *plan, text string) error {
	name, args, hasArgs := strings.Cut(strings.TrimSpace(text), "(")
	if hasArgs {
		inner, ok := strings.CutSuffix(args, ")")
		if !ok {
			return fmt.Errorf("%q: parentheses do not match", text)
		}
		args = strings.TrimSpace(inner)
	}
	name = strings.TrimSpace(name)
	if isNumber(name) {
		name, args = "status", strings.TrimRight(name+","+args, ",")
		hasArgs = true
	}
	set, known := vocabulary[name]
	if !known {
		return fmt.Errorf("%q: no such fault", name)
	}
	if err := set(p, argument{text: args, given: hasArgs}); err != nil {
		return fmt.Errorf("%q: %w", strings.TrimSpace(text), err)
	}
	return nil
}

// split cuts text at every sep that is not inside parentheses.
func split(text, sep string) []string {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '(':
			depth++
		case text[i] == ')':
			depth--
		case depth == 0 && strings.HasPrefix(text[i:], sep):
			parts = append(parts, text[start:i])
			start = i + len(sep)
			i = start - 1
		}
	}
	return append(parts, text[start:])
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
