package blobstore

func writeLimited(string) int { return 2 }
