package ref_test

import (
	"errors"
	"fmt"

	"github.com/modeltransfer/transfer/model/ref"
)

func ExampleParse() {
	for _, text := range []string{"llama3.2:1b", "docker.io/me/model@sha256:1", "localhost:5000/me/model"} {
		r, err := ref.Parse(text)
		if errors.Is(err, ref.ErrMalformed) {
			fmt.Println(err)
			continue
		}
		fmt.Println(r.BaseURL(), r.Repository, r.Version())
	}
	// Output:
	// https://registry.ollama.ai library/llama3.2 1b
	// reference "docker.io/me/model@sha256:1": malformed digest "sha256:1"
	// http://localhost:5000 me/model latest
}
