package config

// distance is the Levenshtein distance of two words in bytes, at most 64 of each.
func distance(a, b string) int {
	const bytesMax = 64
	if len(a) > bytesMax || len(b) > bytesMax {
		return bytesMax
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, cost)
		}
	}
	return row[len(b)]
}
