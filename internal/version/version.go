// Package version names the version of the programs.
package version

// Number is the version of all programs of one build.
const Number = "0.1.0"
