// Before anything is drawn: parts that need scripts may show, and sections one at a time.
document.documentElement.className = "js";
