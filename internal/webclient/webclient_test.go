package webclient_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fairlead-dev/fairlead/internal/webclient"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		retry, date string
		want        time.Duration
	}{
		"seconds":                 {"7", "", 7 * time.Second},
		"negative":                {"-7", "", 0},
		"too many":                {"99999999999999", "", 0},
		"date":                    {at(time.Minute), "", time.Minute},
		"date, by their clock":    {at(time.Hour), at(time.Hour - 5*time.Second), 5 * time.Second},
		"date that is over":       {at(-time.Minute), "", 0},
		"nonsense":                {"soon", "", 0},
		"nothing":                 {"", "", 0},
		"nonsense as their clock": {at(time.Minute), "noon", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{"Retry-After": {c.retry}, "Date": {c.date}}
			require.Equal(t, c.want, webclient.RetryAfter(h, now))
		})
	}
}
