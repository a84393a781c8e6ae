package serve_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/modeltransfer/transfer/model/serve"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "registry-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry, err := serve.Open(dir, serve.Options{ReadOnly: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer registry.Close()
	server := httptest.NewServer(registry) // an http.Server in a program
	defer server.Close()
	resp, err := http.Get(server.URL + "/v2/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}
