package diff

// A Hindrance is something about a build that makes patches larger than they need be.
type Hindrance struct {
	What string // which file, and what about it
	Cost string // what that costs
	Next string // what to do
}

func (h Hindrance) String() string { return h.What + ": " + h.Cost + "; " + h.Next }

// Hindrances compares two versions.
func Hindrances(old, next *Content) []Hindrance { return nil }
