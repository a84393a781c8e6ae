package programs

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// writeTable writes what the programs took as a Markdown table.
func writeTable(out io.Writer, title string, names []string, all map[string][]sample) error {
	ours := median(all[transferName], wallOf)
	const header = "| program | wall s: min–median–max | × transfer | CPU s | note |\n" +
		"| --- | --- | --- | --- | --- |\n"
	text := fmt.Sprintf("\n**%s**: %d rounds\n\n%s", title, roundsOf(all), header)
	for _, name := range names {
		text += row(name, all[name], ours)
	}
	_, err := io.WriteString(out, text)
	return err
}

func row(name string, samples []sample, ours time.Duration) string {
	for _, s := range samples {
		if s.failure != "" {
			return fmt.Sprintf("| %s | – | | | %s |\n", name, s.failure)
		}
	}
	if len(samples) == 0 {
		return ""
	}
	least := slices.MinFunc(samples, byWall).wall
	most := slices.MaxFunc(samples, byWall).wall
	middle := median(samples, wallOf)
	ratio := ""
	if ours > 0 {
		ratio = fmt.Sprintf("%.2f", middle.Seconds()/ours.Seconds())
	}
	cpu, note := median(samples, cpuOf), programs()[name].note
	return fmt.Sprintf("| %s | %.3g–%.3g–%.3g | %s | %.2f | %s |\n",
		name, least.Seconds(), middle.Seconds(), most.Seconds(), ratio, cpu.Seconds(), note)
}

func wallOf(s sample) time.Duration { return s.wall }
func cpuOf(s sample) time.Duration  { return s.cpu }
func byWall(a, b sample) int        { return int(a.wall - b.wall) }

// median is 0 where there is none, or a run has failed.
func median(samples []sample, of func(sample) time.Duration) time.Duration {
	var all []time.Duration
	for _, s := range samples {
		if s.failure != "" {
			return 0
		}
		all = append(all, of(s))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func roundsOf(all map[string][]sample) (n int) {
	for _, samples := range all {
		n = max(n, len(samples))
	}
	return n
}
