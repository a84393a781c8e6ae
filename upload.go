package transfer

import "context"

const uploadsAhead = 5

func upload(ctx context.Context, c *call, o UploadOptions) error { return nil }
