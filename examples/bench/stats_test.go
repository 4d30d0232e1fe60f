package main

import (
	"slices"
	"testing"
)

func TestSpreadOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		series []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{7}, spread{7, 7, 7, 7, 7, 1}},
		{[]float64{4, 1}, spread{2.5, 1.75, 3.25, 1, 4, 2}},
		{[]float64{5, 1, 4, 2, 3}, spread{3, 2, 4, 1, 5, 5}},
		{[]float64{10, 20, 30, 1000}, spread{25, 17.5, 272.5, 10, 1000, 4}},
	} {
		if got := spreadOf(c.series); got != c.want {
			t.Errorf("the spread of %v is %+v, and not %+v", c.series, got, c.want)
		}
	}
	series := []float64{3, 1, 2}
	spreadOf(series)
	if !slices.Equal(series, []float64{3, 1, 2}) {
		t.Errorf("the series is %v now", series)
	}
}

// TestQuotients: a round that is slow for both leaves the ratio as it is.
func TestQuotients(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dividends, divisors, want []float64 }{
		{[]float64{20, 60, 24}, []float64{10, 30, 12}, []float64{2, 2, 2}},
		{[]float64{1, 2, 3}, []float64{2}, []float64{0.5}},
		{[]float64{1, 2}, []float64{0, 4}, []float64{0.5}},
		{nil, []float64{1}, nil},
	} {
		if got := quotients(c.dividends, c.divisors); !slices.Equal(got, c.want) {
			t.Errorf("%v by %v is %v, and not %v", c.dividends, c.divisors, got, c.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{
		0: "0.00 ms", 0.123: "0.12 ms", 9.994: "9.99 ms", 9.996: "10.0 ms", 38.26: "38.3 ms", 99.94: "99.9 ms",
		99.96: "100 ms", 559.4: "559 ms", 999.4: "999 ms", 999.6: "1.00 s", 4910: "4.91 s", 123456: "123 s",
	} {
		if got := duration(x); got != want {
			t.Errorf("%v ms is %q, and not %q", x, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 100_000: "100,000", 1_234_567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %q, and not %q", n, got, want)
		}
	}
}
