package main

import (
	"fmt"
	"math"
	"slices"
)

// A spread says where the values of a series lie: half of them between the
// quartiles, all of them between the ends.
type spread struct {
	Median, Lower, Upper, Min, Max float64
	Values                         int
}

// spreadOf is the spread of a series; one of nothing has no Values.
func spreadOf(series []float64) spread {
	if len(series) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(series))
	return spread{
		Median: quantile(sorted, 0.5), Lower: quantile(sorted, 0.25), Upper: quantile(sorted, 0.75),
		Min: sorted[0], Max: sorted[len(sorted)-1], Values: len(sorted),
	}
}

// quantile interpolates between the two values that it lies between.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := math.Floor(at)
	low, high := sorted[int(below)], sorted[int(math.Ceil(at))]
	return low + (high-low)*(at-below)
}

// quotients divides value by value. Both series are of the same rounds, so what
// slows a round down slows both and falls out. A round that one of them lacks
// does not count.
func quotients(dividends, divisors []float64) []float64 {
	var out []float64
	for i := range min(len(dividends), len(divisors)) {
		if divisors[i] > 0 {
			out = append(out, dividends[i]/divisors[i])
		}
	}
	return out
}

// significant writes a number with three digits, or all that are before the
// point.
func significant(x float64) string {
	switch size := math.Abs(x); {
	case size >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case size >= 9.995:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// duration writes milliseconds as a person would.
func duration(ms float64) string {
	if ms >= 999.5 {
		return significant(ms/1000) + " s"
	}
	return significant(ms) + " ms"
}

// thousands writes a count with commas.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
