// Runs before anything is drawn: shows the parts that need scripts, and one section at a time.
document.documentElement.className = "js";
