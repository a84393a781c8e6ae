package wire

import "strings"

// Temporary tells whether a status says that the same request may succeed later.
func Temporary(status int) bool {
	switch status {
	case 408, 425, 429, 500, 502, 503, 504, 522, 524:
		return true
	}
	return false
}

// Secrets masks tokens.
type Secrets struct{ list []string }

func (s *Secrets) Add(token string) {
	if token != "" {
		s.list = append(s.list, token)
	}
}

func (s *Secrets) Mask(text string) string {
	for _, token := range s.list {
		text = strings.ReplaceAll(text, token, "***")
		for n := min(len(token), len(text)); n >= 4; n-- {
			if before, ok := strings.CutSuffix(text, token[:n]); ok {
				return before + "***"
			}
		}
	}
	return text
}
