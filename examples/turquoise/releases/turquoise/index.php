<?php
// Reads the old structure, and fills both as soon as there are two.
const RELEASE = 'turquoise';
require 'guestbook.php';

// The first names and the last one. A form has both where it comes from a page of
// the release after this one; of a whole name the last word is the last one, as in
// the migration.
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
[$db, $version] = database($post);
if ($post) {
    [$first, $last] = person();
    $name = trim("$first $last");
    $message = field('message');
    $complete = $last != '' && $message != '';
    if ($complete && $version == 1) {
        $db->prepare('INSERT INTO entry (name, message) VALUES (?, ?)')->execute([$name, $message]);
    } elseif ($complete) {
        $db->prepare('INSERT INTO entry (name, first, last, message) VALUES (?, ?, ?, ?)')->execute([$name, $first, $last, $message]);
    }
    $db->exec('COMMIT');
    done($complete);
}
page('<input name="name" required>', $db, 'name');
