// S3server is `rclone serve s3` and nothing else of rclone: a real S3-compatible server for tests and benchmarks, in a
// module of its own so that what it depends on stays out of Fairlead's.
package main

import (
	_ "github.com/rclone/rclone/backend/local"
	"github.com/rclone/rclone/cmd"
	_ "github.com/rclone/rclone/cmd/serve/s3"
)

func main() { cmd.Main() }
