//go:build !linux

package statemachine

func mountDisk(string, int64) bool { return false }

func shrinkDisk(string) error { return nil }

func growDisk(string) error { return nil }

func unmountDisk(string) error { return nil }
