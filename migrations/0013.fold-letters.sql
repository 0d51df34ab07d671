-- Letters that no accent makes are folded too: the stroke of a Polish l, the final sigma of Greek, the
-- dotless i of Turkish, ligatures and sharp s; and the many apostrophes and hyphens.
--
-- The letters are those of `unaccent` (Unicode's Latin-ASCII) and of Unicode's case folding, as far as
-- NFKD and lower() leave them. They stand here rather than in the extension, since what an index holds
-- must not change with an upgrade. What is ASCII, most of all text, takes the short way.
--
-- No table is rewritten: 0016 changes the rows whose text is folded otherwise by now.
DO $$
DECLARE
    -- lower() goes by the database's collation, and knows ASCII alone where that is "C".
    collation_name text := coalesce(
        (SELECT format('pg_catalog.%I', collname) FROM pg_collation
         WHERE collname IN ('pg_c_utf8', 'und-x-icu') AND collnamespace = 'pg_catalog'::regnamespace
         ORDER BY collname LIMIT 1),
        'pg_catalog."default"'
    );
BEGIN
    EXECUTE format($function$
        CREATE OR REPLACE FUNCTION leads.folded(words text) RETURNS text
            LANGUAGE sql IMMUTABLE PARALLEL SAFE
            RETURN CASE WHEN octet_length(words) = length(words)
                THEN lower(words COLLATE "C")
                ELSE replace(replace(replace(replace(translate(
                    lower(regexp_replace(normalize(words, NFKD), '[\u0300-\u036f]', '', 'g')
                        COLLATE %s),
            'ʹʻʼʽˈ‘’‛′‐‒–—―−ᴀᶏⱥƀƃɓʙᴃᵬᶀƈȼɕᴄꞓðđƌȡɖɗᴅᴆᵭᶁᶑꝱꝺɇɛᴇᶒᶓⱸƒᵮᶂꜰꝼǥɠɡɢʛᶃꞡħɦɧʜⱨ' ||
            'ıɨɩɪᵻᶖȷɉɟʝᴊƙᴋᶄⱪꝁꝃꝅꞣłƚȴɫɬɭʟᴌᶅⱡꝇꝉꝲɱᴍᵯᶆꝳŋƞȵɲɳɴᵰᶇꝴꞑꞥøᴏⱺꝋꝍƥᴘᵱᵽᶈꝑꝓꝕĸʠꝗꝙɍ' ||
            'ɼɽɾʀᵲᵳᶉꝵꝶꞧȿʂᵴᶊẜẝꜱꞩŧƫƭȶʈᴛᵵⱦꝷꞇʉᴜᵾᶙʋᴠᶌỽⱱⱴꝟᴡⱳᶍƴɏʏỿƶȥɀʐʑᴢᵶᶎⱬςᲀᲁᲂᲃᲄᲅᲆᲇᲈ',
            '''''''''''''''''''------aaabbbbbbbcccccdddddddddddddeeeeeefffffggggggghhhhh' ||
            'iiiiiijjjjjkkkkkkkklllllllllllllmmmmmnnnnnnnnnnnoooooppppppppqqqqr' ||
            'rrrrrrrrrrssssssssttttttttttuuuuvvvvvvvwwxyyyyzzzzzzzzzσвдосттъѣꙋ'
                    ), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th') COLLATE "C"
            END
    $function$, collation_name);
END $$;

-- Sessions that are open keep the definitions of indexes, with the function's body in them, until
-- something of the index changes. What this sets is what is set already.
ALTER INDEX IF EXISTS leads.lead_last_name ALTER COLUMN 1 SET STATISTICS -1;
ALTER INDEX IF EXISTS leads.lead_country ALTER COLUMN 1 SET STATISTICS -1;
