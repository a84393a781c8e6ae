package credentials_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/modeltransfer/transfer/model/credentials"
)

func ExampleFiles_For() {
	dir, err := os.MkdirTemp("", "docker-*")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	config := []byte(`{"auths": {"registry.example": {"auth": "bWU6c2VjcmV0"}}}`)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		fmt.Println(err)
		return
	}
	files := credentials.Find(func(name string) string { // os.Getenv in a program
		return map[string]string{"DOCKER_CONFIG": dir}[name]
	})
	who, err := files.For("registry.example", "me/model")(context.Background())
	fmt.Println(who.Username, err)
	// Output: me <nil>
}
