# Draws the ratios of a table of benches/collections.sh as bars, each with the least and the greatest of its rounds.
#
#   awk -f benches/bars.awk table.md > bars.svg
#
# Columns: command, ours, theirs, ratio, least..greatest. A line at 0.6 and one at 0.8: what is wanted of writes and of ranges.
BEGIN { FS = "|"; width = 720; left = 230; unit = 300; row = 18 }
$5 ~ /^ *[0-9.]+ *$/ && $6 ~ /\.\./ {
  count++
  name[count] = $2; gsub(/^ +| +$/, "", name[count])
  ratio[count] = $5 + 0
  split($6, ends, /\.\./)
  least[count] = ends[1] + 0; most[count] = ends[2] + 0
}
function x(value) { return left + unit * (value > 1.55 ? 1.55 : value) }
END {
  height = row * count + 40
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n", width, height
  printf "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", width, height
  for (i = 1; i <= count; i++) {
    y = 10 + row * (i - 1)
    printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 8, y + 11, name[i]
    printf "<rect x=\"%d\" y=\"%d\" width=\"%.0f\" height=\"12\" fill=\"#4a7fb5\"/>\n", left, y, x(ratio[i]) - left
    printf "<line x1=\"%.0f\" y1=\"%d\" x2=\"%.0f\" y2=\"%d\" stroke=\"#222\"/>\n", x(least[i]), y + 6, x(most[i]), y + 6
    printf "<text x=\"%.0f\" y=\"%d\">%.2f</text>\n", (x(most[i]) > x(ratio[i]) ? x(most[i]) : x(ratio[i])) + 6, y + 11, ratio[i]
  }
  for (mark = 1; mark <= 3; mark++) {
    at = mark == 1 ? 0.6 : mark == 2 ? 0.8 : 1
    printf "<line x1=\"%.0f\" y1=\"4\" x2=\"%.0f\" y2=\"%d\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>\n", x(at), x(at), height - 22
    printf "<text x=\"%.0f\" y=\"%d\" text-anchor=\"middle\" fill=\"#666\">%s</text>\n", x(at), height - 8, at == 1 ? "Redis" : at
  }
  print "</svg>"
}
