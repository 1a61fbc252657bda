# Prints what bench/deltas measured: group, class, pair, bytes of the new release, tool, bytes of the patch, CPU s and KiB of
# creating, CPU s and KiB of applying, remark.

function commas(n,    s) {
	if (n == "" || n == "-") return "-"
	s = sprintf("%d", n)
	while (match(s, /^[0-9]+[0-9][0-9][0-9](,|$)/)) s = sub3(s)
	return s
}
function sub3(s,    head, rest, i) {
	i = index(s, ",")
	head = i ? substr(s, 1, i - 1) : s
	rest = i ? substr(s, i) : ""
	return substr(head, 1, length(head) - 3) "," substr(head, length(head) - 2) rest
}
function number(s) { return s != "" && s != "-" }
function ratio(a, b) { return number(a) && number(b) ? sprintf("%.3f", a / b) : "-" }
function smaller(a, b) { return !number(a) ? b : !number(b) ? a : (b + 0 < a + 0 ? b : a) }
function add(list, v) { if (number(v)) values[list, ++count[list]] = v + 0 }
function sorted(list,    i, j, v) {
	for (i = 2; i <= count[list]; i++) {
		v = values[list, i]
		for (j = i - 1; j > 0 && values[list, j] > v; j--) values[list, j + 1] = values[list, j]
		values[list, j + 1] = v
	}
}
function median(list, fmt,    n) {
	n = count[list]
	if (!n) return "-"
	sorted(list)
	return sprintf(fmt, n % 2 ? values[list, (n + 1) / 2] : (values[list, n / 2] + values[list, n / 2 + 1]) / 2)
}
function largest(list, fmt) {
	if (!count[list]) return "-"
	sorted(list)
	return sprintf(fmt, values[list, count[list]])
}
function costs(id, tool,    s) {
	if (!number(c[id, tool])) return "- | -"
	return sprintf("%.1f s, %d MB | %.2f s, %d MB", c[id, tool], cm[id, tool] * 1024 / 1e6, a[id, tool], am[id, tool] * 1024 / 1e6)
}

function row(id, name, z, b,    tar) {
	tar = name !~ /file by file$/
	print "| " name " | " commas(size[id]) " | " (tar ? commas(bytes[id, "full"]) " | " commas(bytes[id, "xdelta3"]) : "- | -") " | " commas(z) " | " commas(b) \
		" | " commas(bytes[id, "ours"]) " | " ratio(bytes[id, "ours"], b) " | " ratio(bytes[id, "ours"], smaller(z, b)) " | " (number(bytes[id, "ours"]) ? remark[id, "ours"] : "-") " | " costs(id, "ours") " |"
}

{
	id = $1 SUBSEP $3
	if (!(id in seen)) { seen[id] = 1; ids[++pairs] = id; group[id] = $1; class[id] = $2; label[id] = $3; size[id] = $4 }
	bytes[id, $5] = $6; c[id, $5] = $7; cm[id, $5] = $8; a[id, $5] = $9; am[id, $5] = $10; remark[id, $5] = $11
}

END {
	print "| pair | size | full zstd -19 | xdelta3 -9 | zstd --patch-from -19 | bsdiff | ours | ours / bsdiff | ours / best of bsdiff and zstd | ours, format | create | apply |"
	print "|---|---|---|---|---|---|---|---|---|---|---|---|"
	for (i = 1; i <= pairs; i++) {
		id = ids[i]
		if (group[id] != last) print "| **" group[id] "** | | | | | | | | | | | |"
		last = group[id]
		z = smaller(bytes[id, "zstd"], bytes[id, "zstd-files"])
		b = smaller(bytes[id, "bsdiff"], bytes[id, "bsdiff-files"])
		o = bytes[id, "ours"]
		best = smaller(z, b)
		if (class[id] == "tree") {
			row(id, label[id] ", as one tar", bytes[id, "zstd"], bytes[id, "bsdiff"])
			row(id, label[id] ", file by file", bytes[id, "zstd-files"], bytes[id, "bsdiff-files"])
		} else {
			row(id, label[id], z, b)
		}
		for (k = 1; k <= 2; k++) {
			g = (k == 1 ? group[id] : "all") SUBSEP class[id]
			if (number(o)) { add(g SUBSEP "b", o / b); add(g SUBSEP "best", o / best); add(g SUBSEP "full", o / bytes[id, "full"]); add("worst", o / best) }
			add(g SUBSEP "zfull", z / bytes[id, "full"]); add(g SUBSEP "bfull", b / bytes[id, "full"])
		}
		split("full zstd xdelta3 bsdiff ours", tool, " ")
		for (t = 1; t in tool; t++) if (class[id] != "tree" && number(c[id, tool[t]])) {
			mb = size[id] / 1e6
			add("c" tool[t], c[id, tool[t]] / mb); add("cm" tool[t], cm[id, tool[t]] * 1024 / size[id])
			add("a" tool[t], a[id, tool[t]] / mb); add("am" tool[t], am[id, tool[t]] * 1024 / size[id])
			add("C" tool[t], c[id, tool[t]]); add("A" tool[t], a[id, tool[t]])
		}
		if (!(group[id] in known)) { known[group[id]] = 1; groups[++ngroups] = group[id] }
	}
	print ""
	print "Medians:"
	print ""
	print "| pairs | number | zstd / full | bsdiff / full | ours / full | ours / bsdiff | ours / best | largest ours / best |"
	print "|---|---|---|---|---|---|---|---|"
	groups[ngroups + 1] = "all"
	split("one two tree", kind, " "); what["one"] = "one toolchain"; what["two"] = "two toolchains"; what["tree"] = "trees"
	for (i = 1; i <= ngroups + (ngroups > 1); i++) for (k = 1; k <= 3; k++) {
		g = groups[i] SUBSEP kind[k]
		if (count[g SUBSEP "bfull"]) print "| " groups[i] ", " what[kind[k]] " | " count[g SUBSEP "bfull"] " | " median(g SUBSEP "zfull", "%.3f") " | " median(g SUBSEP "bfull", "%.3f") \
			" | " median(g SUBSEP "full", "%.3f") " | " median(g SUBSEP "b", "%.3f") " | " median(g SUBSEP "best", "%.3f") " | " largest(g SUBSEP "best", "%.3f") " |"
	}
	print ""
	print "Cost, without the trees: medians, per MB of the new release and as multiples of its size; in brackets the largest CPU time."
	print ""
	print "| tool | create, CPU s per MB | create, memory | apply, CPU s per MB | apply, memory |"
	print "|---|---|---|---|---|"
	for (t = 1; t in tool; t++) if (count["c" tool[t]])
		print "| " tool[t] " | " median("c" tool[t], "%.2f") " (" largest("C" tool[t], "%.1f") " s) | " median("cm" tool[t], "%.1f") " | " median("a" tool[t], "%.4f") " (" largest("A" tool[t], "%.2f") " s) | " median("am" tool[t], "%.1f") " |"
}
