package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/modeltransfer/transfer"
)

// tokenClient gets tokens as a program that uses the library would.
type tokenClient struct {
	calls atomic.Int64
}

func (c *tokenClient) get(ctx context.Context, challenge transfer.AuthChallenge) (string, error) {
	c.calls.Add(1)
	query := url.Values{"service": {challenge.Service}, "scope": {challenge.Scope}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, challenge.Realm+"?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("token server: %s", resp.Status)
	}
	var answer struct {
		Token string `json:"token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("token server: %w", err)
	}
	return answer.Token, nil
}
