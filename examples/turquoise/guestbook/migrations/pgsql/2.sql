-- At 2 both structures are complete and agree, whoever writes: so every release that
-- works with 2 can follow every other one, and go back to it. The last word of a name
-- becomes the last name.
ALTER TABLE entry ADD first text, ADD last text;
-- What ends a name and is no space is the last word.
UPDATE entry SET
	first = trim(rtrim(name, replace(name, ' ', ''))),
	last = substr(name, length(rtrim(name, replace(name, ' ', ''))) + 1);
ALTER TABLE entry
	ALTER first SET NOT NULL,
	ALTER last SET NOT NULL,
	ADD CHECK (last <> ''),
	ADD CHECK (name = trim(first || ' ' || last));
