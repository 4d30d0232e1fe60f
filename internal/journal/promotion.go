package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bluegreen/internal/durable"
	"bluegreen/internal/git"
)

// A Course says how far a promotion has got, as far as it matters to recovery.
type Course string

// Promotions go from Preparing to Moving to Moved, or to Returning.
const (
	Preparing Course = "preparing" // the traffic has not been asked for
	Moving    Course = "moving"    // the traffic may have been asked for
	Moved     Course = "moved"     // it has moved, and the outside has seen the release
	Returning Course = "returning" // it is to go back to where it was
)

// A Promotion is the intent to move the traffic: enough for a recovery to find
// out what became of it, and to finish it or take it back.
type Promotion struct {
	ID      string    `json:"id"`
	Course  Course    `json:"course"`
	Started time.Time `json:"started"`
	// Asked is when the traffic was about to be asked for last: the request may
	// be carried out a little later.
	Asked time.Time `json:"asked"`
	// What names what was being moved, and through what. A recovery must not
	// move anything else.
	What string `json:"what"`
	// Process is the program that moves the traffic, where it is one of the
	// operator's: it may outlive us. Start identifies it beyond its id.
	Process int    `json:"process,omitempty"`
	Start   string `json:"start,omitempty"`
	// Event is what the history will say, From and To and the action's id
	// included; its result is not known yet.
	Event Event `json:"event"`
	// Refs are moved when the traffic is seen to be here.
	Refs []git.RefUpdate `json:"refs,omitempty"`
	// Deployment is the id of the transaction that the promotion is a part of;
	// "" where it stands alone.
	Deployment string `json:"deployment,omitempty"`
}

const promotionFile = "promotion.json"

// Promotion returns the promotion that a crash interrupted, nil when there is
// none. While one runs, it returns that one.
func (j *Journal) Promotion() (*Promotion, error) {
	var p Promotion
	found, err := j.read(promotionFile, &p)
	if !found || err != nil {
		return nil, err
	}
	known := p.Course == Preparing || p.Course == Moving || p.Course == Moved || p.Course == Returning
	if p.ID == "" || !known || p.Event.Traffic == nil || p.Event.To == "" {
		return nil, fmt.Errorf("%q: %w: it lacks what every promotion has", filepath.Join(j.Dir, promotionFile), ErrDamaged)
	}
	return &p, nil
}

// RecordPromotion writes p down, durably: before the traffic is asked for, when
// the action's id is known, and when the course changes.
func (j *Journal) RecordPromotion(p *Promotion) error { return j.write(promotionFile, p) }

// EndPromotion forgets the promotion, and what was prepared for it and not
// used: the traffic is where the history says.
func (j *Journal) EndPromotion() error {
	if err := os.Remove(filepath.Join(j.Dir, nextDeployedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ending the journal: %w", err)
	}
	return durable.Remove(filepath.Join(j.Dir, promotionFile))
}
