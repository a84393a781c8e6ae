package registry

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// conn is one connection of a client. It belongs to the state that it was accepted in.
type conn struct {
	*state
	server *Server
	tcp    *net.TCPConn
	in     *bufio.Reader
	cdn    bool
	rate   int64 // bytes per second; 0 is no limit
	pace   pacer
	head   []byte // of the response, kept to be used again
	buffer []byte
}

// reply is a response. Its body is data or a part of a file.
type reply struct {
	status int
	header []string // name, value, name, value
	blob   string   // the digest, when the body is one
	size   int64    // of the whole blob
	length int64    // of the body
	data   []byte
	file   *os.File
}

func newConn(s *Server, st *state, tcp *net.TCPConn, number int64, cdn bool) *conn {
	c := &conn{state: st, server: s, tcp: tcp, cdn: cdn, rate: st.knobs.rateOf(number)}
	c.in = bufio.NewReaderSize(tcp, 16<<10)
	return c
}

// serve answers requests until the client goes away.
func (c *conn) serve() {
	c.serving.RLock()
	defer c.serving.RUnlock()
	defer c.tcp.Close()
	for {
		req, err := http.ReadRequest(c.in)
		if err != nil {
			return
		}
		c.tally.requests.Add(1)
		if d := c.knobs.delay(c.cdn); d > 0 {
			time.Sleep(d)
		}
		if err := c.answer(req); err != nil || req.Close {
			return
		}
	}
}

// answer routes a request, reads what is left of its body, and writes the response.
func (c *conn) answer(req *http.Request) error {
	if strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
		if _, err := c.tcp.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
			return err
		}
	}
	r := c.route(req)
	if r.file != nil {
		defer r.file.Close()
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return err
	}
	return c.write(req, r)
}

// write sends a response.
func (c *conn) write(req *http.Request, r reply) error {
	c.head = appendHead(c.head[:0], r)
	body := req.Method != http.MethodHead && r.length > 0
	if body && r.blob != "" {
		c.bodies.Add(1)
		defer c.bodies.Add(-1)
	}
	if body && r.data != nil && !c.paced() {
		both := net.Buffers{c.head, r.data} // one system call for a small blob
		n, err := both.WriteTo(c.tcp)
		c.sent(r, n-int64(len(c.head)))
		return err
	}
	if _, err := c.tcp.Write(c.head); err != nil || !body {
		return err
	}
	if c.paced() {
		return c.trickle(r)
	}
	sent, err := c.tcp.ReadFrom(&io.LimitedReader{R: r.file, N: r.length}) // sendfile
	c.sent(r, sent)
	return err
}

// sent counts bytes of a body.
func (c *conn) sent(r reply, n int64) {
	if r.blob != "" && n > 0 {
		c.tally.sent(r.blob, r.size, n)
	}
}

func (c *conn) paced() bool { return c.rate > 0 || c.knobs.TotalRate > 0 }

// throttle waits until n bytes may pass.
func (c *conn) throttle(n int) {
	c.pace.pay(n, c.rate)
	c.total.pay(n, c.knobs.totalRate(c.bodies.Load()))
}

// trickle sends a body at the speed of the connection.
func (c *conn) trickle(r reply) error {
	var body io.Reader = r.file
	if r.file == nil {
		body = strings.NewReader(string(r.data))
	}
	for left := r.length; left > 0; {
		b := c.scratch()
		b = b[:min(left, int64(c.chunk()))]
		if _, err := io.ReadFull(body, b); err != nil {
			return err
		}
		c.throttle(len(b))
		n, err := c.tcp.Write(b)
		c.sent(r, int64(n))
		if left -= int64(n); err != nil {
			return err
		}
	}
	return nil
}

// chunk is how much to move at once. The common rate counts for less the more connections share it.
func (c *conn) chunk() int {
	n := chunk(c.rate)
	if c.knobs.TotalRate > 0 {
		n = min(n, chunk(c.knobs.TotalRate))
	}
	return n
}

// receive reads a body to its end, at the speed of the connection, into an upload.
func (c *conn) receive(body io.Reader, up *upload) error {
	b := c.scratch()[:c.chunk()]
	for {
		n, err := body.Read(b)
		c.tally.body.Add(int64(n))
		up.take(b[:n])
		if c.paced() {
			c.throttle(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *conn) scratch() []byte {
	if c.buffer == nil {
		c.buffer = make([]byte, bufferSize)
	}
	return c.buffer
}

// appendHead appends the status line and the header.
func appendHead(b []byte, r reply) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(r.status)...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, r.length, 10)
	for i := 0; i+1 < len(r.header); i += 2 {
		b = append(b, "\r\n"...)
		b = append(b, r.header[i]...)
		b = append(b, ": "...)
		b = append(b, r.header[i+1]...)
	}
	return append(b, "\r\n\r\n"...)
}
