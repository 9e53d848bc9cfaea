package workers_test

import (
	"fmt"

	"blocktree/internal/workers"
)

func Example() {
	var p workers.Pool
	answers := make(chan int, 3)
	for i := range 3 {
		p.Go(func() { answers <- i * i })
	}
	p.Wait()
	fmt.Println(<-answers + <-answers + <-answers)
	// Output: 5
}
