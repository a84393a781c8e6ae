package registry

import (
	"fmt"
	"net/http"
	"strings"
)

// cdnPath is where the CDN has the blobs.
const cdnPath = "/cdn/"

// route finds the answer to a request.
func (c *conn) route(req *http.Request) reply {
	path := req.URL.Path
	if dg, ok := strings.CutPrefix(path, cdnPath); ok {
		return c.blob(req, dg)
	}
	path, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return failure(http.StatusNotFound, "NAME_UNKNOWN")
	}
	if path == "" {
		return reply{status: http.StatusOK}
	}
	if repository, id, ok := cut(path, "/blobs/uploads/"); ok {
		if id == "" && req.Method == http.MethodPost {
			return c.post(req, repository)
		}
		return c.upload(req, repository, id)
	}
	if _, dg, ok := cut(path, "/blobs/"); ok {
		if c.knobs.Redirect && !c.knobs.Empty {
			return c.redirect(dg)
		}
		return c.blob(req, dg)
	}
	return failure(http.StatusNotFound, "NAME_UNKNOWN")
}

func cut(path, at string) (repository, rest string, ok bool) {
	i := strings.LastIndex(path, at)
	if i < 0 {
		return "", "", false
	}
	return path[:i], path[i+len(at):], true
}

// redirect sends a client to the CDN.
func (c *conn) redirect(dg string) reply {
	return reply{status: http.StatusTemporaryRedirect, header: []string{
		"Location", fmt.Sprintf("http://%s%s%s?signature=valid", c.server.cdn.Addr(), cdnPath, dg),
		"Docker-Content-Digest", dg,
	}}
}

// failure is an answer with an error of the OCI specification.
func failure(status int, code string) reply {
	body := fmt.Appendf(nil, `{"errors":[{"code":%q,"message":""}]}`, code)
	return reply{status: status, header: []string{"Content-Type", "application/json"}, data: body,
		length: int64(len(body))}
}
