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
// checkout would write them in another way, so they are written, too. It
// returns the paths that stay unchanged.
func (w *Worktree) convert(ctx context.Context, objects *git.Objects, p *Plan, current *index.Index, unchanged []int, known Known) ([]int, error) {
	rules, err := w.Repo.Rules(ctx)
	if err != nil {
		return nil, err
	}
	if p.conversions, err = w.conversionsOf(objects, rules, p.next, p.source); err != nil {
		return nil, err
	}
	before, err := w.conversionsOf(objects, rules, current, known.source(p.Held))
	if err != nil {
		return nil, err
	}
	c := &comparison{before: before, now: p.conversions, plan: p, current: current, unchanged: unchanged}
	if err := c.compare(ctx, known); err != nil {
		return nil, err
	}
	for _, i := range c.rewritten {
		e := &p.next.Entries[i]
		p.Writes = append(p.Writes, Write{Path: e.Path, Item: e.Item, entry: i})
	}
	sortWrites(p.Writes)
	for _, i := range c.doubted {
		p.next.Entries[i].Stat = index.Stat{}
	}
	p.doubted = c.doubted
	return without(unchanged, c.rewritten), nil
}

// A comparison is of what a checkout makes of the paths that two trees share.
type comparison struct {
	before, now *conversions
	plan        *Plan
	current     *index.Index
	unchanged   []int // in the next index, as the two below, all sorted

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
	case len(c.unchanged) == 0:
		return nil
	case !sure:
		// Git wrote them, or a recovery: in which way is not certain. Those are
		// compared anyway of which nothing is known at all.
		c.unchanged = slices.DeleteFunc(slices.Clone(c.unchanged), func(i int) bool { return c.plan.next.Entries[i].Stat == index.Stat{} })
		return c.eachThatConverts(ctx, func(i int) { c.doubted = append(c.doubted, i) })
	case !recorded:
		// A version wrote them that converted nothing.
		c.before.settled = true
		return c.eachThatConverts(ctx, func(i int) { c.rewritten = append(c.rewritten, i) })
	case outside != oldOutside || oldFilters != "" && !c.sameFilters(ctx, oldFilters):
		c.doubted = c.unchanged
		return nil
	case same:
		return nil
	}
	return c.eachThatDiffers(ctx)
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
func (c *comparison) eachThatConverts(ctx context.Context, do func(i int)) error {
	return c.each(ctx, c.unchanged, func(i int, before, now git.Conversion) {
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
	places := slices.DeleteFunc(slices.Clone(c.unchanged), func(i int) bool {
		return !changed[""] && !under(c.now.dir+c.plan.next.Entries[i].Path, changed)
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
	before, err := c.before.ask(ctx, c.plan.next, places)
	if errors.Is(err, git.ErrNoObject) {
		c.doubted = c.unchanged // the old commit has been pruned
		return nil
	}
	if err != nil {
		return err
	}
	now, err := c.now.ask(ctx, c.plan.next, places)
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
	places := make([]int, len(p.Writes))
	for n := range p.Writes {
		places[n] = p.Writes[n].entry
	}
	answers, err := p.conversions.ask(ctx, p.next, places)
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
