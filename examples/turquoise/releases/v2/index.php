<?php
// Reads the new structure, and fills both.
const RELEASE = 'v2';
require 'guestbook.php';

// The first names and the last one. A form that comes from a page of the release
// before this one has the whole name, of which the last word is the last one.
function person(): array
{
    if (field('last') != '') {
        return [field('first'), field('last')];
    }
    $words = explode(' ', field('name'));
    $last = array_pop($words);
    return [implode(' ', $words), $last];
}

$post = $_SERVER['REQUEST_METHOD'] == 'POST';
[$db] = database($post);
if ($post) {
    [$first, $last] = person();
    $message = field('message');
    $complete = $last != '' && $message != '';
    if ($complete) {
        $db->prepare('INSERT INTO entry (name, first, last, message) VALUES (?, ?, ?, ?)')
            ->execute([trim("$first $last"), $first, $last, $message]);
        $db->exec('COMMIT');
    }
    done($complete);
}
page('<input name="first"><input name="last" required>', $db, "trim(first || ' ' || last)");
