package credentials

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"github.com/modeltransfer/transfer/registry"
)

// The messages do not quote a file, because it has secrets in it.
var (
	errNoConfig   = errors.New("it is not JSON of Docker's form")
	errNoBase64   = errors.New("auth is not base64 of name:password")
	errTokenOnly  = errors.New("a registrytoken, which no registry can be asked with")
	errWrongShape = errors.New("it is no object with auth in it")
)

// config is a configuration file of Docker's form.
type config struct {
	path    string
	docker  bool                       // it is Docker's own, not podman's
	rest    map[string]json.RawMessage // what else is in it
	auths   map[string]json.RawMessage
	store   string
	helpers map[string]string
}

// readConfig reads a file. A file that is not there, or is empty, has nothing. The error is an *Unreadable.
func readConfig(path string) (*config, error) {
	c := &config{path: path, rest: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, &Unreadable{Path: path, Err: err}
	}
	if data = bytes.TrimSpace(utf8Of(data)); len(data) == 0 {
		return c, nil
	}
	if json.Unmarshal(data, &c.rest) != nil {
		return nil, &Unreadable{Path: path, Err: errNoConfig}
	}
	for name, to := range map[string]any{
		"auths": &c.auths, "credsStore": &c.store, "credHelpers": &c.helpers,
	} {
		if value, ok := c.rest[name]; ok && json.Unmarshal(value, to) != nil {
			return nil, &Unreadable{Path: path, Err: fmt.Errorf("%w: %s", errNoConfig, name)}
		}
	}
	if c.auths == nil { // it was null
		c.auths = map[string]json.RawMessage{}
	}
	return c, nil
}

// utf8Of takes away the mark that editors of Windows set before a text, and undoes the encoding of
// PowerShell.
func utf8Of(data []byte) []byte {
	var order binary.ByteOrder = binary.LittleEndian
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		order = binary.BigEndian
	default:
		return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	}
	units := make([]uint16, 0, len(data)/2)
	for at := 2; at+1 < len(data); at += 2 {
		units = append(units, order.Uint16(data[at:]))
	}
	return []byte(string(utf16.Decode(units)))
}

// isNew tells whether the file names no credentials at all.
func (c *config) isNew() bool { return len(c.auths) == 0 && c.store == "" && len(c.helpers) == 0 }

// save writes the file, whole or not at all. Where its name is a link, the link stays.
func (c *config) save() error {
	for name, value := range map[string]any{"auths": c.auths, "credsStore": c.store} {
		raw, err := json.Marshal(value)
		if err != nil {
			return err
		}
		c.rest[name] = raw
	}
	if c.store == "" {
		delete(c.rest, "credsStore")
	}
	data, err := json.MarshalIndent(c.rest, "", "\t")
	if err != nil {
		return err
	}
	path, err := behindLinks(c.path)
	if err != nil {
		return err
	}
	return replace(path, data)
}

// behindLinks returns the file to which a name leads. It need not be there.
func behindLinks(path string) (string, error) {
	for range 40 { // as many as Linux follows
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil // it is no link
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", &fs.PathError{Op: "readlink", Path: path, Err: errors.New("too many links")}
}

// replace gives a file its content.
func replace(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".config-*.json") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// entry is a log-in in a file.
type entry struct {
	Auth          string `json:"auth,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
}

func decodeEntry(raw json.RawMessage) (registry.Credentials, error) {
	var e entry
	if json.Unmarshal(raw, &e) != nil {
		return registry.Credentials{}, errWrongShape
	}
	c := registry.Credentials{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken}
	if e.Auth != "" {
		text, err := base64.StdEncoding.DecodeString(e.Auth)
		name, password, ok := strings.Cut(string(text), ":")
		if err != nil || !ok {
			return registry.Credentials{}, errNoBase64
		}
		c.Username, c.Password = name, strings.Trim(password, "\x00") // some tools pad
	}
	if c == (registry.Credentials{}) && e.RegistryToken != "" {
		return c, errTokenOnly
	}
	return c, nil
}

func encodeEntry(c registry.Credentials) json.RawMessage {
	e := entry{IdentityToken: c.IdentityToken}
	if c.Username != "" || c.Password != "" {
		e.Auth = base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
	}
	raw, _ := json.Marshal(e) // strings only
	return raw
}
