package registrytest

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// argument is what stands between the parentheses of a fault.
type argument struct {
	text  string
	given bool
}

// setter puts one fault into a plan.
type setter func(*plan, argument) error

// vocabulary has every fault there is.
var vocabulary = map[string]setter{
	"ok":    flag(func(*plan) {}),
	"delay": duration(func(p *plan, d time.Duration) { p.delay = d }),

	"status":       setStatus,
	"redirect":     setRedirect,
	"errorbody":    setErrorBody,
	"says":         setSays,
	"page":         flag(setPage),
	"s3":           setStoreError,
	"hinting":      duration(func(p *plan, d time.Duration) { p.instead, p.hintEvery = insteadHints, d }),
	"hangup":       flag(func(p *plan) { p.instead = insteadHangup }),
	"stallheaders": flag(func(p *plan) { p.instead = insteadStall }),

	"header":     setHeader,
	"range":      setRange,
	"asked":      func(p *plan, a argument) error { p.asked = &a.text; return nil },
	"norange":    flag(func(p *plan) { p.asked = new(string) }),
	"encoding":   setEncoding,
	"chunked":    flag(func(p *plan) { p.length = lengthChunked }),
	"clen":       setContentLength,
	"headerbomb": size(func(p *plan, n int64) { p.bomb = n }),
	"hints":      size(func(p *plan, n int64) { p.hints = n }),
	"goaway":     flag(func(p *plan) { p.edit("Connection", "close") }),

	"reset":      setReset,
	"connreset":  size(func(p *plan, n int64) { p.answer = cut{n, endConn} }),
	"eof":        size(func(p *plan, n int64) { p.answer = cut{n, endClean} }),
	"noclen":     setNoLength,
	"truncchunk": size(func(p *plan, n int64) { p.length, p.answer = lengthChunked, cut{n, endAbort} }),
	"stall":      size(func(p *plan, n int64) { p.answer = cut{n, endStall} }),
	"long":       size(func(p *plan, n int64) { p.length, p.extra = lengthChunked, n }),
	"endless":    flag(func(p *plan) { p.length, p.extra = lengthChunked, endless }),
	"flip":       size(func(p *plan, n int64) { p.flip = n }),
	"slow":       setSlow,

	"cut":       size(func(p *plan, n int64) { p.request = cut{n, endAbort} }),
	"stallbody": size(func(p *plan, n int64) { p.request = cut{n, endStall} }),
	"swallow":   flag(func(p *plan) { p.swallow = true }),
	"read":      flag(func(p *plan) { p.readAll = true }),
	"late":      duration(func(p *plan, d time.Duration) { p.late = d }),
}

// flag is a fault without an argument.
func flag(set func(*plan)) setter {
	return func(p *plan, a argument) error {
		if a.given {
			return errors.New("takes no argument")
		}
		set(p)
		return nil
	}
}

// size is a fault with one size.
func size(set func(*plan, int64)) setter {
	return func(p *plan, a argument) error {
		n, err := parseSize(a.text)
		if err != nil {
			return err
		}
		set(p, n)
		return nil
	}
}

func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMG")
	unit := map[string]int64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || unit == 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	return n * unit, nil
}

// duration is a fault with one duration.
func duration(set func(*plan, time.Duration)) setter {
	return func(p *plan, a argument) error {
		d, err := time.ParseDuration(a.text)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is not a duration", a.text)
		}
		set(p, d)
		return nil
	}
}

func setStatus(p *plan, a argument) error {
	code, headers, _ := strings.Cut(a.text, ",")
	status, err := strconv.Atoi(strings.TrimSpace(code))
	if err != nil || status < 200 || status > 999 {
		return fmt.Errorf("%q is not a status", code)
	}
	if status == http.StatusPartialContent {
		p.relabel = status
	} else {
		p.instead, p.status = insteadStatus, status
	}
	return addHeaders(p, headers)
}

func setRedirect(p *plan, a argument) error {
	if a.text == "" {
		return errors.New("needs a URL")
	}
	p.instead, p.status = insteadStatus, http.StatusTemporaryRedirect
	p.edit("Location", a.text)
	return nil
}

func setErrorBody(p *plan, a argument) error {
	if p.status == 0 {
		p.instead, p.status = insteadStatus, http.StatusInternalServerError
	}
	if a.text == "endless" {
		p.errorBody = endless
		return nil
	}
	n, err := parseSize(a.text)
	p.errorBody = n
	return err
}

// setSays answers with a status and a body of the test's own: "403, {"error":"access denied"}".
func setSays(p *plan, a argument) error {
	status, text, found := strings.Cut(a.text, ",")
	if !found {
		return errors.New("needs a status and a text")
	}
	return setText(p, status, strings.TrimSpace(text))
}

// setText answers with a status and a body.
func setText(p *plan, status, text string) error {
	if err := setStatus(p, argument{text: status}); err != nil {
		return err
	}
	if p.instead != insteadStatus || p.status == http.StatusNoContent || p.status == http.StatusNotModified {
		return fmt.Errorf("%q is not a status with a text", status)
	}
	p.payload = text
	return nil
}

// setPage answers as a captive portal does, or a front page at the wrong host.
func setPage(p *plan) {
	p.instead, p.status = insteadStatus, http.StatusOK
	p.payload = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"
	p.edit("Content-Type", "text/html; charset=utf-8")
}

// setStoreError answers as an object store does: "400 ExpiredToken".
func setStoreError(p *plan, a argument) error {
	status, code, found := strings.Cut(a.text, " ")
	if !found {
		return errors.New("needs a status and a code")
	}
	p.edit("Content-Type", "application/xml")
	return setText(p, status, storeErrorBody(code, "injected fault"))
}

func setHeader(p *plan, a argument) error {
	if a.text == "" {
		return errors.New("needs a header")
	}
	return addHeaders(p, a.text)
}

// headerStart finds where the next header begins: a semicolon is also found in
// values, but there no name and colon follow it.
var headerStart = regexp.MustCompile(`;\s*(-[A-Za-z0-9-]+\s*(;|$)|[A-Za-z][A-Za-z0-9-]*\s*:)`)

func addHeaders(p *plan, text string) error {
	for text = strings.TrimSpace(text); text != ""; {
		one := text
		text = ""
		if at := headerStart.FindStringIndex(one); at != nil {
			one, text = one[:at[0]], strings.TrimSpace(one[at[0]+1:])
		}
		if gone, ok := strings.CutPrefix(one, "-"); ok {
			p.drop(strings.TrimSpace(gone))
			continue
		}
		name, value, ok := strings.Cut(one, ":")
		if !ok {
			return fmt.Errorf("%q is not a header", one)
		}
		p.edit(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return nil
}

func setRange(p *plan, a argument) error {
	p.relabel = http.StatusPartialContent
	p.drop("Content-Range")
	if a.text == "" {
		return nil
	}
	for text := range strings.SplitSeq(a.text, ";") {
		p.edit("Content-Range", strings.TrimSpace(text))
	}
	return nil
}

func setEncoding(p *plan, a argument) error {
	if a.text == "" {
		return errors.New("needs an encoding")
	}
	p.length, p.gzip = lengthChunked, a.text == "gzip"
	p.edit("Content-Encoding", a.text)
	return nil
}

func setContentLength(p *plan, a argument) error {
	n, err := parseSize(a.text)
	p.length, p.contentLength = lengthForged, n
	return err
}

func setReset(p *plan, a argument) error {
	if !a.given {
		p.instead = insteadReset
		return nil
	}
	n, err := parseSize(a.text)
	p.either = cut{n, endReset}
	return err
}

func setNoLength(p *plan, a argument) error {
	p.length = lengthNone
	if !a.given {
		return nil
	}
	n, err := parseSize(a.text)
	p.answer = cut{n, endClean}
	return err
}

func setSlow(p *plan, a argument) error {
	n, err := parseSize(a.text)
	if err == nil && n == 0 {
		return errors.New("needs a speed above 0")
	}
	p.speed = n
	return err
}
