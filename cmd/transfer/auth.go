package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/modeltransfer/transfer"
)

const (
	maxTokenBody    = 1 << 20 // 1 MiB; tokens of some KiB exist
	maxDockerConfig = 1 << 20 // 1 MiB
	maxChallenge    = 8 << 10 // 8 KiB
)

var (
	errNoBearer    = errors.New("the registry refuses access without a log-in and offers none by token, the only kind that is supported")
	errRealm       = errors.New("token realm refused: it is not an https URL")
	errTokenServer = errors.New("token server")
	errCredentials = errors.New("reading credentials")
)

// credentials are a name and a password; both are empty for anonymous.
type credentials struct{ username, password string }

// tokens gets tokens for one registry, as the "Token Authentication" of the
// distribution project specifies.
type tokens struct {
	client *http.Client

	// insecure says that the registry is reached by http, so its realm may be too.
	insecure bool

	// find returns the credentials for the registry. It is called only when a
	// token is needed.
	find func() (credentials, error)
}

// get returns a token that answers the challenge. Its errors have no secret in them.
func (t *tokens) get(ctx context.Context, c transfer.AuthChallenge) (string, error) {
	if c.Realm == "" {
		return "", errNoBearer
	}
	who, err := t.find()
	if err != nil {
		return "", err
	}
	u, err := t.tokenURL(c, who)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errTokenServer, err)
	}
	if who.username != "" {
		req.SetBasicAuth(who.username, who.password)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w %s: %w", errTokenServer, u.Host, withoutURL(err))
	}
	defer resp.Body.Close()
	return readToken(resp, u.Host)
}

func (t *tokens) tokenURL(c transfer.AuthChallenge, who credentials) (*url.URL, error) {
	u, err := url.Parse(c.Realm)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !t.insecure) {
		return nil, errRealm
	}
	q := u.Query()
	if c.Service != "" {
		q.Set("service", c.Service)
	}
	for scope := range strings.FieldsSeq(c.Scope) {
		q.Add("scope", scope)
	}
	if who.username != "" {
		q.Set("account", who.username)
	}
	u.User, u.RawQuery, u.Fragment = nil, q.Encode(), ""
	return u, nil
}

func readToken(resp *http.Response, host string) (string, error) {
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return "", fmt.Errorf("%w %s: %s (check the name and the password)", errTokenServer, host, resp.Status)
	default:
		return "", fmt.Errorf("%w %s: %s", errTokenServer, host, resp.Status)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	err := json.NewDecoder(io.LimitReader(resp.Body, maxTokenBody)).Decode(&answer)
	switch {
	case err != nil: // not wrapped: it may quote the token
		return "", fmt.Errorf("%w %s: the answer is not JSON or was cut short", errTokenServer, host)
	case answer.Token != "":
		return answer.Token, nil
	case answer.AccessToken != "":
		return answer.AccessToken, nil
	}
	return "", fmt.Errorf("%w %s: no token in the answer", errTokenServer, host)
}

// credentialsFor returns those of the command line or, without a username, those
// that the Docker configuration has for the host.
func (a *app) credentialsFor(host, username string) (credentials, error) {
	if username != "" {
		return credentials{username, a.getenv(passwordVariable)}, nil
	}
	dir := a.getenv("DOCKER_CONFIG")
	if dir == "" {
		home := a.getenv("HOME")
		if home == "" {
			home = a.getenv("USERPROFILE")
		}
		if home == "" {
			return credentials{}, nil
		}
		dir = filepath.Join(home, ".docker")
	}
	return readDockerConfig(filepath.Join(dir, "config.json"), host)
}

// readDockerConfig finds a host's entry among the auths of a Docker
// configuration. Entries that a credential helper keeps are not seen.
func readDockerConfig(path, host string) (credentials, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return credentials{}, nil
	}
	if err != nil {
		return credentials{}, fmt.Errorf("%w: %w", errCredentials, err)
	}
	defer f.Close()
	var config struct {
		Auths map[string]struct {
			Auth string `json:"auth"`
		} `json:"auths"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxDockerConfig)).Decode(&config); err != nil {
		return credentials{}, fmt.Errorf("%w: %s is not a Docker configuration", errCredentials, path)
	}
	for _, name := range []string{host, "https://" + host, "http://" + host, "https://" + host + "/", "https://" + host + "/v2/", "https://" + host + "/v1/"} {
		if entry := config.Auths[name]; entry.Auth != "" {
			return decodeAuth(entry.Auth, path, host)
		}
	}
	return credentials{}, nil
}

func decodeAuth(auth, path, host string) (credentials, error) {
	plain, err := base64.StdEncoding.DecodeString(auth)
	username, password, ok := strings.Cut(string(plain), ":")
	if err != nil || !ok {
		return credentials{}, fmt.Errorf("%w: %s: malformed auth of %s", errCredentials, path, host)
	}
	return credentials{username, strings.TrimRight(password, "\x00")}, nil
}

var (
	bearerPattern    = regexp.MustCompile(`(?i)(?:^|,)\s*bearer\s+`)
	parameterPattern = regexp.MustCompile(`^[\s,]*([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))`)
	escapePattern    = regexp.MustCompile(`\\(.)`)
)

// parseChallenge returns the Bearer challenge of a WWW-Authenticate header (RFC
// 9110 section 11.6.1). All is empty when there is none.
func parseChallenge(header string) transfer.AuthChallenge {
	var c transfer.AuthChallenge
	header = header[:min(len(header), maxChallenge)]
	start := bearerPattern.FindStringIndex(header)
	if start == nil {
		return c
	}
	fields := map[string]*string{"realm": &c.Realm, "service": &c.Service, "scope": &c.Scope}
	for rest := header[start[1]:]; ; {
		m := parameterPattern.FindStringSubmatch(rest)
		if m == nil {
			return c
		}
		if field := fields[strings.ToLower(m[1])]; field != nil {
			*field = escapePattern.ReplaceAllString(m[2], "$1") + m[3]
		}
		rest = rest[len(m[0]):]
	}
}
