package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"slices"

	"github.com/fairlead-dev/fairlead/license"
)

// An edition is what a licence allows: its entitlements decide, not its name.
type edition struct {
	name string
	csv  bool  // entitlement "csv"
	rows int64 // entitlement "rows"
}

// editionOf asks the status, not the licence: one that does not hold grants nothing.
func editionOf(s license.Status) edition {
	e := edition{name: "Community", csv: s.Has("csv"), rows: 3}
	if n, ok := s.Limit("rows"); ok {
		e.rows = n
	}
	if name, ok := s.Value("edition"); ok {
		e.name = name
	}
	return e
}

func (e edition) formats() []string {
	if e.csv {
		return []string{"json", "csv"}
	}
	return []string{"json"}
}

// banner is what to tell the user about the licence, "" if there is nothing to say. It gets louder as the end comes nearer,
// never covers anything, and never says "expired" of what still works.
func banner(s license.Status) string {
	end := s.Until.Format("2 January 2006")
	switch s.State {
	case license.Valid:
		return "" // of the end of its token an app takes care by itself
	case license.ExpiringSoon:
		switch s.EndsWithin() {
		case 30, 14:
			return "Your licence ends on " + end + "."
		case 7:
			return "Your licence ends on " + end + ". Renew it this week."
		case 1:
			return "Your licence ends today. Renew it, and nothing will change."
		}
	case license.Grace:
		return "Your licence has ended. Everything works until " + end + ": renew it by then."
	case license.Expired:
		return "Your licence has ended. The free edition goes on working, and so does every file that you have made."
	case license.Revoked:
		return "Your vendor took this licence back: " + s.Reason + "."
	case license.WrongMachine:
		return "This licence is for another machine: send the vendor what `licensed request` prints."
	case license.NotYetValid, license.ClockSuspect:
		return "Your licence starts later. Is this computer's clock right?"
	case license.Invalid:
		return "Your licence cannot be used: " + s.Err.Error()
	}
	return ""
}

// report is the work that people bought the program for.
func (a *app) report(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	format := flags.String("format", "json", "json, or with a licence csv")
	if err := flags.Parse(args); err != nil {
		return err
	}
	e := editionOf(a.current(ctx))
	if !slices.Contains(e.formats(), *format) {
		return fmt.Errorf("the %s edition has no format %q: see licensed status", e.name, *format)
	}
	rows := [][]string{{"north", "12"}, {"east", "7"}, {"south", "30"}, {"west", "4"}, {"centre", "19"}}
	rows = rows[:min(int64(len(rows)), e.rows)]
	if *format == "csv" {
		return csv.NewWriter(a.out).WriteAll(rows)
	}
	return json.NewEncoder(a.out).Encode(rows)
}
