<?php
// Reads the new structure, and fills the old one only for as long as it is there.
const RELEASE = 'v3';
require 'guestbook.php';

// The first names and the last one. A form that comes from a page of the releases
// before v2 has the whole name, of which the last word is the last one.
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
    $message = field('message');
    $complete = $last != '' && $message != '';
    if ($complete && $version == 2) {
        $db->prepare('INSERT INTO entry (name, first, last, message) VALUES (?, ?, ?, ?)')
            ->execute([trim("$first $last"), $first, $last, $message]);
    } elseif ($complete) {
        $db->prepare('INSERT INTO entry (first, last, message) VALUES (?, ?, ?)')->execute([$first, $last, $message]);
    }
    $db->exec('COMMIT');
    done($complete);
}
page('<input name="first"><input name="last" required>', $db, "trim(first || ' ' || last)");
