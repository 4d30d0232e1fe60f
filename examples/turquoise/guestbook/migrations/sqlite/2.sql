-- At 2 both structures are complete and agree, whoever writes: so every release that
-- works with 2 can follow every other one, and go back to it. The last word of a name
-- becomes the last name. SQLite adds no constraints to a table: it is made anew.
CREATE TABLE both (
	id integer PRIMARY KEY AUTOINCREMENT,
	name text NOT NULL,
	first text NOT NULL,
	last text NOT NULL CHECK (last <> ''),
	message text NOT NULL,
	CHECK (name = trim(first || ' ' || last))
);
-- What ends a name and is no space is the last word.
INSERT INTO both (id, name, first, last, message)
	SELECT id, name, trim(rtrim(name, replace(name, ' ', ''))),
		substr(name, length(rtrim(name, replace(name, ' ', ''))) + 1), message
	FROM entry;
DROP TABLE entry;
ALTER TABLE both RENAME TO entry;
