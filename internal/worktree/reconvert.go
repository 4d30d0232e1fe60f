package worktree

import (
	"context"
	"errors"
	"slices"
	"strings"

	"bluegreen/internal/git"
	"bluegreen/internal/index"
)

// convert finds out what git's checkout makes of the next tree, and which of
// the unchanged paths it makes something else of than it did before: a fresh
// checkout would write them in another way, so they are written, too.
func (w *Worktree) convert(ctx context.Context, objects *git.Objects, p *Plan, known Known) error {
	rules, err := w.Repo.Rules(ctx)
	if err != nil {
		return err
	}
	if p.conversions, err = w.conversionsOf(objects, rules, p.next, p.source); err != nil {
		return err
	}
	before, err := w.conversionsOf(objects, rules, entriesOf(p.base), known.source(p.Held))
	if err != nil {
		return err
	}
	c := &comparison{before: before, now: p.conversions, plan: p, verify: w.Verify}
	if err := c.compare(ctx, known); err != nil {
		return err
	}
	p.rewrite(c.rewritten)
	p.doubted = c.doubted
	return nil
}

// rewrite adds the files at the places, which the commit has not changed.
func (p *Plan) rewrite(places []int) {
	if len(places) == 0 {
		return
	}
	for _, i := range places {
		p.Writes = append(p.Writes, Write{Path: string(p.base.Path(i)), Item: p.base.Item(i)})
	}
	p.touched = append(p.touched, places...)
	slices.Sort(p.touched)
	slices.SortFunc(p.Writes, func(a, b Write) int { return strings.Compare(a.Path, b.Path) })
}

// A comparison is of what a checkout makes of the paths that two trees share.
type comparison struct {
	before, now *conversions
	plan        *Plan
	verify      bool

	// Both are places in the index of what the web root holds, in order.
	rewritten []int // converted in another way than before
	doubted   []int // must be compared by content
}

// compare decides by what is known of the last deployment. It leaves in the
// plan what has to be known of this one.
func (c *comparison) compare(ctx context.Context, known Known) error {
	rules := c.now.rules
	outside, err := rules.Fingerprint(ctx)
	if err != nil {
		return err
	}
	oldOutside, oldFilters, recorded := strings.Cut(known.Conversions, "/")
	same := slices.Equal(c.before.files, c.now.files) && c.before.dir == c.now.dir
	sure := known.Deployed && known.Tree == c.plan.Held && !known.Elsewhere
	filters, err := c.filters(ctx, sure && recorded && same, oldFilters)
	if err != nil {
		return err
	}
	c.plan.Conversions = outside + "/" + filters
	switch {
	case c.plan.base.Len() == len(c.plan.touched):
		return nil
	case !sure:
		// Git wrote them, or a recovery: in which way is not certain. With Verify
		// those are compared anyway of which nothing is known at all.
		places := slices.DeleteFunc(c.unchanged(), func(i int) bool { return c.verify && c.plan.base.Stat(i) == index.Stat{} })
		return c.eachThatConverts(ctx, places, func(i int) { c.doubted = append(c.doubted, i) })
	case !recorded:
		// A version wrote them that converted nothing.
		c.before.settled = true
		return c.eachThatConverts(ctx, c.unchanged(), func(i int) { c.rewritten = append(c.rewritten, i) })
	case outside != oldOutside || oldFilters != "" && !c.sameFilters(ctx, oldFilters):
		c.doubted = c.unchanged()
		return nil
	case same:
		return nil
	}
	return c.eachThatDiffers(ctx)
}

// unchanged lists the places of what stays.
func (c *comparison) unchanged() []int {
	places := make([]int, 0, c.plan.base.Len())
	c.plan.untouched(func(i int) { places = append(places, i) })
	return places
}

// filters stands for the filters of the next tree: "" where no attribute names
// one, and "none" where none is configured.
func (c *comparison) filters(ctx context.Context, same bool, before string) (string, error) {
	if !same {
		if err := c.now.read(); err != nil {
			return "", err
		}
		if !c.now.rules.Filter(c.now.mentions) {
			return "", nil
		}
	} else if before == "" {
		return "", nil
	}
	return c.configured(ctx)
}

func (c *comparison) configured(ctx context.Context) (string, error) {
	filters, err := c.now.rules.Filters(ctx)
	if filters == "" {
		filters = "none"
	}
	return filters, err
}

func (c *comparison) sameFilters(ctx context.Context, before string) bool {
	filters, err := c.configured(ctx)
	return err == nil && filters == before
}

// eachThatConverts calls do for the unchanged paths that convert now or, by
// what the attributes said then, before.
func (c *comparison) eachThatConverts(ctx context.Context, places []int, do func(i int)) error {
	if now, err := c.now.likely(); err != nil || !now {
		if before, err := c.before.likely(); err != nil || !before {
			return err // nobody need be asked
		}
	}
	return c.each(ctx, places, func(i int, before, now git.Conversion) {
		if before.How != "" || now.How != "" {
			do(i)
		}
	})
}

// eachThatDiffers finds what is to be rewritten where the attributes of the
// tree have changed.
func (c *comparison) eachThatDiffers(ctx context.Context) error {
	changed := map[string]bool{"": c.before.dir != c.now.dir} // directories whose .gitattributes did
	for _, pair := range [][2][]attributesFile{{c.before.files, c.now.files}, {c.now.files, c.before.files}} {
		for _, f := range pair[0] {
			if !slices.Contains(pair[1], f) {
				dir, _ := split(f.path)
				changed[dir] = true
			}
		}
	}
	places := slices.DeleteFunc(c.unchanged(), func(i int) bool {
		return !changed[""] && !under(c.now.dir+string(c.plan.base.Path(i)), changed)
	})
	return c.each(ctx, places, func(i int, before, now git.Conversion) {
		if before.How != now.How {
			c.rewritten = append(c.rewritten, i)
		}
	})
}

// each asks git about the paths at the places, as they were before and as they
// are now.
func (c *comparison) each(ctx context.Context, places []int, do func(i int, before, now git.Conversion)) error {
	asked := at(c.plan.base, places)
	before, err := c.before.ask(ctx, asked)
	if errors.Is(err, git.ErrNoObject) {
		c.doubted = c.unchanged() // the old commit has been pruned
		return nil
	}
	if err != nil {
		return err
	}
	now, err := c.now.ask(ctx, asked)
	if err != nil {
		return err
	}
	for n, i := range places {
		do(i, before[n], now[n])
	}
	return nil
}

// without returns the numbers of all that are not in some; both are sorted.
func without(all, some []int) []int {
	if len(some) == 0 {
		return all
	}
	var rest []int
	for _, i := range all {
		for len(some) > 0 && some[0] < i {
			some = some[1:]
		}
		if len(some) == 0 || some[0] != i {
			rest = append(rest, i)
		}
	}
	return rest
}

// markWrites tells which of the writes are git's, and finds the pointers among
// them.
func (w *Worktree) markWrites(ctx context.Context, objects *git.Objects, p *Plan) error {
	asked := make([]index.Entry, len(p.Writes))
	for n := range p.Writes {
		asked[n] = index.Entry{Path: p.Writes[n].Path, Item: p.Writes[n].Item}
	}
	answers, err := p.conversions.ask(ctx, asked)
	if err != nil {
		return err
	}
	var candidates []*Write
	for n := range p.Writes {
		p.Writes[n].converts = answers[n].How != ""
		if answers[n].LFS {
			candidates = append(candidates, &p.Writes[n])
		}
	}
	p.Pointers, err = pointers(objects, candidates)
	return err
}

// maxPointer is the size of the largest pointer of Git LFS.
const maxPointer = 1024

// pointers returns the paths of the writes that are pointers of Git LFS.
func pointers(objects *git.Objects, candidates []*Write) ([]string, error) {
	oids := make([]git.OID, len(candidates))
	for n, write := range candidates {
		oids[n] = write.OID
	}
	sizes, err := objects.Sizes(oids)
	if err != nil {
		return nil, err
	}
	var found []string
	for n, write := range candidates {
		if sizes[n] > maxPointer {
			continue
		}
		_, data, err := objects.Read(write.OID)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(data), "version https://git-lfs.github.com/spec/") {
			found = append(found, write.Path)
		}
	}
	return found, nil
}
